/**
 * The options that define a watch.
 *
 * @module
 */

import { multiple, withDefault } from "@optique/core/modifiers";
import { choice } from "@optique/core/valueparser";
import type { LockOptions, WatchDefinition, WatchOperation } from "../changes/options.ts";
import { aDay } from "../duration.ts";
import { given, type Values } from "./command.ts";
import {
  list as names,
  maybe,
  nameAndValue,
  needed,
  number,
  positional,
  toggle,
  words,
} from "./options.ts";
import { duration } from "./values.ts";

/** The table. */
export const relation = positional(
  words("TABLE"),
  'The table, as in SQL: public.users, or \'"Shop"."Orders"\'.',
);

/** The name of the watch. */
export const name = maybe(
  "--name",
  words("NAME"),
  "The watch's name, as a table may have several. Default: watch.",
);

/** How long to wait for the table's lock. */
export const lockTimeout = maybe(
  "--lock-timeout",
  duration("--lock-timeout", { least: 1, most: aDay }),
  "Give up if writers hold the table for longer. Default: 5s.",
);

/** The options that name an existing watch. */
export const existing = { table: relation, name, lockTimeout };

/** These options, for `unwatch()` and `rewatch()`. */
export function existingOf(o: Values<typeof existing>): LockOptions & { readonly name?: string } {
  return { ...given({ name: o.name }), ...lockOption(o.lockTimeout) };
}

/** The option for a lock timeout in milliseconds. */
export function lockOption(ms: number | undefined): LockOptions {
  return ms === undefined ? {} : { lockTimeout: Math.ceil(ms) };
}

/** The options of a definition. */
export const definition = {
  table: relation,
  channel: maybe(
    "--channel",
    words("CHANNEL"),
    "The channel to publish on. Default: SCHEMA.TABLE.",
  ),
  name,
  on: maybe("--on", names("OPERATIONS"), "Some of insert,update,delete,truncate. Default: all."),
  include: maybe("--include", names("COLUMNS"), "Publish only these columns."),
  exclude: maybe("--exclude", names("COLUMNS"), "Publish all columns except these."),
  key: maybe("--key", names("COLUMNS"), "What identifies a row. Default: the primary key."),
  when: maybe(
    "--when",
    words("CONDITION"),
    'Publish only if this is true, in SQL: "new.total > 100 or old.total > 100".',
  ),
  ifChanged: maybe(
    "--if-changed",
    names("COLUMNS"),
    "Publish only updates that change one of these columns; any: of the published columns.",
  ),
  payload: maybe(
    "--payload",
    choice(["full", "new", "diff", "key"], { metavar: "KIND" }),
    "What to publish of a row: full (old and new, the default), new, diff (the changes) or key.",
  ),
  headers: multiple(needed("--header", nameAndValue, "A header of each notification. Repeatable.")),
  maxBytes: maybe(
    "--max-bytes",
    number("BYTES", { least: 1000, most: 67_108_864 }),
    "Publish only the key of a larger row. Default: 16777216.",
  ),
  replicated: toggle("--replicated", "Also publish what logical replication applies here."),
  level: withDefault(
    needed(
      "--level",
      choice(["auto", "statement", "row"], { metavar: "LEVEL" }),
      "When the triggers run: auto (default), statement or row.",
    ),
    "auto" as const,
  ),
};

/** A definition, for `watch()`. */
export function definitionOf(o: Values<typeof definition>): WatchDefinition {
  const { channel, name, include, exclude, key, when, ifChanged, payload, maxBytes } = o;
  return {
    ...given({ channel, name, include, exclude, key, when, payload, maxBytes }),
    ...given({
      // watch() checks each and lists those that exist.
      operations: o.on?.map((one) => one.toLowerCase() as WatchOperation),
      ifChanged: ifChanged?.join() === "any" || ifChanged,
      headers: o.headers.length === 0 ? undefined : Object.fromEntries(o.headers),
    }),
    replicated: o.replicated,
    level: o.level,
  };
}
