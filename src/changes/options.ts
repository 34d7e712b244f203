/**
 * Options of a watch, and their checks.
 *
 * @module
 */

import { bad, channelName, knownOptions, text, wholeNumber } from "../check.ts";
import type { Duration } from "../duration.ts";
import { headersText } from "../publish/payload.ts";
import type { WatchPayload } from "./change.ts";
import type { SnapshotOptions } from "./snapshot.ts";
import type { Watched } from "./watched_table.ts";

/** An operation on a table. */
export type WatchOperation = "insert" | "update" | "delete" | "truncate";

/** The definition of a watch: what it publishes, and how. */
export interface WatchDefinition {
  /** The channel to publish on, 1 to 200 characters. @default `schema.table` */
  readonly channel?: string;
  /** The watch's name, 1 to 40 bytes. A table may have several watches. @default {"watch"} */
  readonly name?: string;
  /** The operations to publish. @default {["insert", "update", "delete", "truncate"]} */
  readonly operations?: readonly WatchOperation[];
  /** Publish only these columns. All columns unless given. Not together with `exclude`. */
  readonly include?: readonly string[];
  /** Do not publish these columns, such as passwords and large texts. */
  readonly exclude?: readonly string[];
  /** The columns that identify a row. @default the primary key */
  readonly key?: string | readonly string[];
  /**
   * A condition in SQL on the rows `old` and `new`. Only changes for which it is true are
   * published. For an insert, all of `old` is null; for a delete, all of `new` is null. The
   * condition becomes part of a trigger that runs as the table's owner: never build it from user
   * input.
   */
  readonly when?: string;
  /**
   * Publish an update only if a column changed: one of the listed columns or, with `true`, any
   * published column.
   * @default {false}
   */
  readonly ifChanged?: boolean | readonly string[];
  /** What to publish for a row, see {@linkcode WatchPayload}. @default {"full"} */
  readonly payload?: WatchPayload;
  /** Headers of each notification. Headers from {@linkcode setContext} override them. */
  readonly headers?: Readonly<Record<string, unknown>>;
  /**
   * The maximum size of a row, in bytes of JSON, approximately. For a larger row only the key is
   * published, marked `truncated`. From 1,000 to 67,108,864 (64 MB).
   * @default {16777216}
   */
  readonly maxBytes?: number;
  /** Also publish changes that logical replication applies to this table. @default {false} */
  readonly replicated?: boolean;
  /**
   * Whether the triggers run once per statement or once per row. Statement triggers are faster.
   * `"auto"` uses row triggers only if statement triggers would miss rows or publish them in
   * another order.
   * @default {"auto"}
   */
  readonly level?: "auto" | "statement" | "row";
}

/** How long to wait for the lock on a table. */
export interface LockOptions {
  /**
   * How long to wait until no open transaction has written to the table, 1 ms to 1 day.
   * Writers that arrive during the wait queue behind it. After this time the call fails.
   * @default {5000}
   */
  readonly lockTimeout?: Duration;
}

/** Options of {@linkcode watch}. */
export interface WatchOptions extends WatchDefinition, LockOptions {
  /**
   * Also publish the rows that already exist, as `"SNAPSHOT"`, in batches. An interrupted snapshot
   * is continued; a finished one is not repeated.
   */
  readonly snapshot?: boolean | SnapshotOptions;
}

/** The options that {@linkcode watched} has already set. */
export type ToldByWatched = "channel" | "name" | "payload" | "key";

const definitionNames: readonly (keyof WatchDefinition)[] = [
  "channel",
  "name",
  "operations",
  "include",
  "exclude",
  "key",
  "when",
  "ifChanged",
  "payload",
  "headers",
  "maxBytes",
  "replicated",
  "level",
];

const operationNames: readonly WatchOperation[] = ["insert", "update", "delete", "truncate"];
const payloads: readonly WatchPayload[] = ["full", "new", "diff", "key"];

/** A watched table with rows of any type. */
// deno-lint-ignore no-explicit-any -- the type of the rows does not matter to the server
export type AnyWatched = Watched<any, WatchPayload, any, any>;

/**
 * Resolves a table that is given by name, or as the result of {@linkcode watched}, possibly from
 * another copy of this package.
 */
export function tableAndOptions<Options extends WatchDefinition>(
  what: string,
  table: string | AnyWatched,
  options: Options,
  more: readonly string[] = [],
): { readonly table: string; readonly options: Options } {
  knownOptions(what, options, [...definitionNames, ...more]);
  if (!isWatched(table)) return { table, options };
  for (const name of ["channel", "name", "payload", "key"] as const) {
    if (options[name] !== undefined) {
      bad(
        name,
        options[name],
        `Give it to watched(), which defines ${table.table}, and leave it out here.`,
      );
    }
  }
  const { channel, name, payload, key } = table;
  return {
    table: table.table,
    options: { ...options, channel, name, payload, ...(key === null ? {} : { key }) },
  };
}

/** Whether a table is given as the result of `watched`, possibly of another copy of this package. */
export function isWatched(table: string | AnyWatched): table is AnyWatched {
  return table !== null && typeof table === "object" && typeof table.table === "string";
}

/** The arguments of hark.watch and hark.watch_sql after the table, as SQL: `$2` and up. */
export const definitionSql = [
  "$2::text",
  "$3::text",
  "coalesce($4::text::text[], '{insert,update,delete,truncate}')",
  "$5::text::text[]",
  "$6::text::text[]",
  "$7::text::text[]",
  "$8::text",
  "$9::text::text[]",
  "$10::text",
  "$11::text::jsonb",
  "$12::bigint",
  "$13::boolean",
  "$14::text",
].join(", ");

/** The values of these arguments. */
export function definitionValues(options: WatchDefinition): unknown[] {
  const { channel, key, when, ifChanged = false, replicated = false, level = "auto" } = options;
  if (options.include !== undefined && options.exclude !== undefined) {
    bad("exclude", options.exclude, "include is given too. Give only one of them.");
  }
  if (when !== undefined && (typeof when !== "string" || when.trim() === "")) {
    bad("when", when, `Give a condition in SQL, such as "new.total > 100".`);
  }
  if (typeof replicated !== "boolean") bad("replicated", replicated, "Give true or false.");
  if (!["auto", "statement", "row"].includes(level)) {
    bad("level", level, 'Give "auto", "statement" or "row".');
  }
  const changed = typeof ifChanged === "boolean"
    ? (ifChanged ? ["*"] : null)
    : columns("ifChanged", ifChanged);
  return [
    channel === undefined ? null : channelName(channel),
    watchName(options.name),
    arrayText(operations(options.operations)),
    arrayText(columns("include", options.include)),
    arrayText(columns("exclude", options.exclude)),
    arrayText(columns("key", typeof key === "string" ? [key] : key)),
    when === undefined ? null : text("when", when, "BAD_OPTION"),
    arrayText(changed),
    payloadKind(options.payload),
    headersText(options.headers),
    wholeNumber("maxBytes", options.maxBytes, 16_777_216, 1000, 67_108_864),
    replicated,
    level,
  ];
}

/** Checks the name of a watch. */
export function watchName(value: unknown): string {
  if (value === undefined) return "watch";
  if (typeof value !== "string" || value === "" || new TextEncoder().encode(value).length > 40) {
    bad("name", value, "Give 1 to 40 bytes of text.");
  }
  return text("name", value, "BAD_OPTION");
}

/** Checks the payload kind of a watch. */
export function payloadKind(value: unknown): WatchPayload {
  if (value === undefined) return "full";
  return payloads.find((one) => one === value) ??
    bad("payload", value, 'Give "full", "new", "diff" or "key".');
}

/** Checks column names; null if none are given. */
export function columns(option: string, value: unknown): readonly string[] | null {
  if (value === undefined) return null;
  if (!Array.isArray(value) || value.length === 0) {
    bad(option, value, "Give an array of at least one column name.");
  }
  for (const name of value) {
    if (typeof name !== "string" || name === "") {
      bad(`a column of ${option}`, name, "Give the name as PostgreSQL stores it, without quotes.");
    }
    text(`a column of ${option}`, name, "BAD_OPTION");
  }
  return [...new Set<string>(value)];
}

function operations(value: unknown): readonly string[] | null {
  if (value === undefined) return null;
  const known = operationNames.join(", ");
  if (!Array.isArray(value) || value.length === 0) {
    bad("operations", value, `Give at least one of ${known}.`);
  }
  for (const name of value) {
    if (!operationNames.includes(name)) bad("an operation", name, `Give one of ${known}.`);
  }
  return [...new Set<string>(value)];
}

/** An array as a PostgreSQL array literal. */
function arrayText(names: readonly string[] | null): string | null {
  if (names === null) return null;
  return `{${names.map((name) => `"${name.replaceAll(/["\\]/g, "\\$&")}"`).join(",")}}`;
}
