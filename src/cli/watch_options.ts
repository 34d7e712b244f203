/**
 * The options that define a watch.
 *
 * @module
 */

import { withDefault } from "@optique/core/modifiers";
import { choice } from "@optique/core/valueparser";
import type { LockOptions, WatchDefinition, WatchOperation } from "../changes/options.ts";
import { aDay } from "../duration.ts";
import { given } from "../given.ts";
import type { Values } from "./args/command.ts";
import {
  list as names,
  maybe,
  nameAndValue,
  needed,
  number,
  positional,
  several,
  toggle,
  words,
} from "./args/options.ts";
import { maybeDuration } from "./args/values.ts";

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
export const lockTimeout = maybeDuration(
  "--lock-timeout",
  "Give up if writers hold the table for longer. Default: 5s.",
  { least: 1, most: aDay },
);

/** The options that name an existing watch. */
export const existing = { table: relation, name, lockTimeout };

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
  headers: several(needed("--header", nameAndValue, "A header of each notification. Repeatable.")),
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

/** A definition and a lock timeout, for `watch()`. */
export function definitionOf(
  { on, ifChanged, headers, ...same }: Omit<Values<typeof definition>, "table"> & LockOptions,
): WatchDefinition & LockOptions {
  return {
    ...same,
    ...given({
      // watch() checks each and lists those that exist.
      operations: on?.map((one) => one.toLowerCase() as WatchOperation),
      ifChanged: ifChanged?.join() === "any" || ifChanged,
      headers: headers && Object.fromEntries(headers),
    }),
  };
}
