/**
 * Options of a watch, and their checks.
 *
 * @module
 */

import { bad, channelName, knownOptions, text, wholeNumber } from "../check.ts";
import { headersText } from "../publish/payload.ts";
import type { WatchPayload } from "./change.ts";
import type { SnapshotOptions } from "./snapshot.ts";
import type { Watched } from "./watched_table.ts";

/** What can be done to a table. */
export type WatchOperation = "insert" | "update" | "delete" | "truncate";

/** What a watch publishes, and how. */
export interface WatchDefinition {
  /** The channel to publish on, 1 to 200 characters. @default `schema.table` */
  readonly channel?: string;
  /** The watch's name, 1 to 40 bytes: a table may have several watches. @default {"watch"} */
  readonly name?: string;
  /** What to publish. @default {["insert", "update", "delete", "truncate"]} */
  readonly operations?: readonly WatchOperation[];
  /** Only these columns are published. All of them unless given; not with `exclude`. */
  readonly include?: readonly string[];
  /** These columns are not published, such as passwords and large texts. */
  readonly exclude?: readonly string[];
  /** The columns that tell a row. @default the primary key */
  readonly key?: string | readonly string[];
  /**
   * A condition in SQL about the rows `old` and `new`: changes for which it is not true are not
   * published. Of an insert all of `old` is null, of a delete all of `new`. It becomes part of a trigger,
   * which runs as the table's owner: never build it of what others have written.
   */
  readonly when?: string;
  /**
   * Publish an update only where a column has changed: one of these, or, with `true`, any that is
   * published. @default {false}
   */
  readonly ifChanged?: boolean | readonly string[];
  /** What is published of a row, see {@linkcode WatchPayload}. @default {"full"} */
  readonly payload?: WatchPayload;
  /** Headers of each notification; those of {@linkcode setContext} come over them. */
  readonly headers?: Readonly<Record<string, unknown>>;
  /**
   * Of a row that is larger, in bytes as JSON and about, only the key is published, and `truncated`: 1,000
   * to 67,108,864, which is 64 MB. @default {16777216}
   */
  readonly maxBytes?: number;
  /** Also publish what logical replication applies here. @default {false} */
  readonly replicated?: boolean;
  /**
   * Whether its triggers run once a statement, or for each row. Statements are the faster; `"auto"`
   * takes rows only where statements would miss some, or tell them in another order. @default {"auto"}
   */
  readonly level?: "auto" | "statement" | "row";
}

/** How long to wait for a table. */
export interface LockOptions {
  /**
   * How long to wait for the table to be free of transactions that write to it, in ms, 1 to 86,400,000.
   * While this waits, those who come to write wait behind it; then it gives up. @default {5000}
   */
  readonly lockTimeout?: number;
}

/** Options of {@linkcode watch}. */
export interface WatchOptions extends WatchDefinition, LockOptions {
  /**
   * Also publishes the rows that are there already, as `"SNAPSHOT"`, batch by batch. One that was
   * interrupted goes on; one that is done is not repeated.
   */
  readonly snapshot?: boolean | SnapshotOptions;
}

/** What {@linkcode watched} has told already. */
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

/** A table of any rows. */
// deno-lint-ignore no-explicit-any -- what its rows are makes no difference to the server
export type AnyWatched = Watched<any, WatchPayload, any, any>;

/** A table that was named, or that {@linkcode watched} made; also of another copy of this package. */
export function tableAndOptions<Options extends WatchDefinition>(
  what: string,
  table: string | AnyWatched,
  options: Options,
  more: readonly string[] = [],
): { readonly table: string; readonly options: Options } {
  knownOptions(what, options, [...definitionNames, ...more]);
  if (table === null || typeof table !== "object") return { table, options };
  for (const name of ["channel", "name", "payload", "key"] as const) {
    if (options[name] !== undefined) {
      bad(name, options[name], `Give it to watched(), which has told what ${table.table} is.`);
    }
  }
  const { channel, name, payload, key } = table;
  return {
    table: table.table,
    options: { ...options, channel, name, payload, ...(key === null ? {} : { key }) },
  };
}

/** The arguments of hark.watch and hark.watch_sql after the table, in SQL: from `$2` on. */
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

/** Their values. */
export function definitionValues(options: WatchDefinition): unknown[] {
  const { channel, key, when, ifChanged = false, replicated = false, level = "auto" } = options;
  if (options.include !== undefined && options.exclude !== undefined) {
    bad("exclude", options.exclude, "There is an include too: give one of them.");
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

/** The name of a watch. */
export function watchName(value: unknown): string {
  if (value === undefined) return "watch";
  if (typeof value !== "string" || value === "" || new TextEncoder().encode(value).length > 40) {
    bad("name", value, "Give 1 to 40 bytes of text.");
  }
  return text("name", value, "BAD_OPTION");
}

/** What is published of a row. */
export function payloadKind(value: unknown): WatchPayload {
  if (value === undefined) return "full";
  return payloads.find((one) => one === value) ??
    bad("payload", value, 'Give "full", "new", "diff" or "key".');
}

/** Names of columns; null where none are given. */
export function columns(option: string, value: unknown): readonly string[] | null {
  if (value === undefined) return null;
  if (!Array.isArray(value) || value.length === 0) {
    bad(option, value, "Give an array of names of columns, at least one.");
  }
  for (const name of value) {
    if (typeof name !== "string" || name === "") {
      bad(`a column of ${option}`, name, "Give its name, without quotes and as it is stored.");
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

/** An array as PostgreSQL writes it. */
function arrayText(names: readonly string[] | null): string | null {
  if (names === null) return null;
  return `{${names.map((name) => `"${name.replaceAll(/["\\]/g, "\\$&")}"`).join(",")}}`;
}
