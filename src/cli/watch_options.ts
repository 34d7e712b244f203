/**
 * How a watch is told on the command line.
 *
 * @module
 */

import { multiple, optional, withDefault } from "@optique/core/modifiers";
import type { InferValue } from "@optique/core/parser";
import { argument, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import type { LockOptions, WatchDefinition, WatchOperation } from "../changes/options.ts";
import { plainText } from "./help.ts";
import { kind, list as names, number, toggle, words } from "./options.ts";

/** The table that is meant. */
export const relation = argument(words("TABLE"), {
  description: plainText('The table, as in SQL: public.users, or \'"Shop"."Orders"\'.'),
});

/** The name of its watch. */
export const name = optional(option("--name", words("NAME"), {
  description: plainText("The watch's name, as a table may have several. Default: watch."),
}));

const header = kind(
  "NAME=VALUE",
  ["", ""] as readonly [string, string],
  (input): readonly [string, string] => {
    const at = input.indexOf("=");
    if (at > 0) return [input.slice(0, at), input.slice(at + 1)];
    throw new Error(`NAME=VALUE is ${JSON.stringify(input)}. Give a header such as source=crm.`);
  },
);

/** How long the table may be waited for. */
export const lockTimeout = optional(
  option("--lock-timeout", number("SECONDS", { least: 0.001, most: 86_400, whole: false }), {
    description: plainText("Give up where writers hold the table for longer. Default: 5."),
  }),
);

/** The option for it. */
export function lockOption(seconds: number | undefined): LockOptions {
  return seconds === undefined ? {} : { lockTimeout: Math.ceil(seconds * 1000) };
}

/** All that a watch is told. */
export const definition = {
  table: relation,
  channel: optional(option("--channel", words("CHANNEL"), {
    description: plainText("The channel to publish on. Default: SCHEMA.TABLE."),
  })),
  name,
  on: optional(option("--on", names("OPERATIONS"), {
    description: plainText("Some of insert,update,delete,truncate. Default: all."),
  })),
  include: optional(option("--include", names("COLUMNS"), {
    description: plainText("Publish only these columns."),
  })),
  exclude: optional(option("--exclude", names("COLUMNS"), {
    description: plainText("Publish all columns but these."),
  })),
  key: optional(option("--key", names("COLUMNS"), {
    description: plainText("What tells a row. Default: the primary key."),
  })),
  when: optional(option("--when", words("CONDITION"), {
    description: plainText(
      'Only where this is true, in SQL: "new.total > 100 or old.total > 100".',
    ),
  })),
  ifChanged: optional(option("--if-changed", names("COLUMNS"), {
    description: plainText(
      "Only updates that change one of these columns; any: a column that is published.",
    ),
  })),
  payload: optional(
    option("--payload", choice(["full", "new", "diff", "key"], { metavar: "KIND" }), {
      description: plainText(
        "Of a row: full (old and new, the default), new, diff (what has changed) or key.",
      ),
    }),
  ),
  headers: multiple(option("--header", header, {
    description: plainText("A header of each notification; may be given several times."),
  })),
  maxBytes: optional(option("--max-bytes", number("BYTES", { least: 1000, most: 67_108_864 }), {
    description: plainText("Of a larger row only the key is published. Default: 16777216."),
  })),
  replicated: toggle("--replicated", "Also what logical replication applies here."),
  level: withDefault(
    option("--level", choice(["auto", "statement", "row"], { metavar: "LEVEL" }), {
      description: plainText("auto (default), statement or row: when the triggers run."),
    }),
    "auto" as const,
  ),
};

/** The values of {@linkcode definition}. */
export type DefinitionOptions = {
  readonly [Name in keyof typeof definition]: InferValue<(typeof definition)[Name]>;
};

/** What a watch is told, for `watch()`. */
export function definitionOf(o: DefinitionOptions): WatchDefinition {
  const { channel, name, include, exclude, key, when, ifChanged, payload, maxBytes } = o;
  return {
    ...(channel === undefined ? {} : { channel }),
    ...(name === undefined ? {} : { name }),
    // Each is checked by watch(), which says what there is.
    ...(o.on === undefined
      ? {}
      : { operations: o.on.map((one) => one.toLowerCase() as WatchOperation) }),
    ...(include === undefined ? {} : { include }),
    ...(exclude === undefined ? {} : { exclude }),
    ...(key === undefined ? {} : { key }),
    ...(when === undefined ? {} : { when }),
    ...(ifChanged === undefined ? {} : { ifChanged: ifChanged.join() === "any" || ifChanged }),
    ...(payload === undefined ? {} : { payload }),
    ...(o.headers.length === 0 ? {} : { headers: Object.fromEntries(o.headers) }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
    replicated: o.replicated,
    level: o.level,
  };
}
