/**
 * Watching tables: triggers publish their changes.
 *
 * @module
 */

import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { askLocking, lockTimeout } from "./lock.ts";
import {
  type AnyWatched,
  definitionSql,
  definitionValues,
  tableAndOptions,
  type ToldByWatched,
  type WatchDefinition,
  watchName,
  type WatchOptions,
} from "./options.ts";
import {
  requireOwnTransactions,
  snapshot,
  snapshotOptions,
  type SnapshotResult,
} from "./snapshot.ts";
import { nameSql, noTable, requireTable, tableName } from "./table.ts";

/** The result of {@linkcode watch}. */
export interface WatchResult {
  /** The table with its schema, quoted as in SQL. */
  readonly table: string;
  /** The watch's name. */
  readonly name: string;
  /** The channel it publishes on. */
  readonly channel: string;
  /** Whether the table had no watch of that name, a different one, or the same one. */
  readonly outcome: "created" | "replaced" | "unchanged";
  /** Whether the triggers run once per statement or once per row. */
  readonly level: "statement" | "row";
  /** Why the triggers do not run once per statement; null if no reason was recorded. */
  readonly reason: string | null;
  /** The result of the snapshot; undefined if none was requested. */
  readonly snapshot: SnapshotResult | undefined;
}

/**
 * Publishes the changes of a table from now on. Each insert, update and delete is published under
 * the row's key, in the transaction that makes the change, whichever program runs it.
 *
 * Call it in the place that maintains the schema, such as a migration. It creates triggers on the
 * table, which requires the table's owner. It waits at most `lockTimeout` for open transactions
 * that have written to the table.
 *
 * Calling it again with the same name replaces the previous definition and repairs drift in one
 * step, so that no change is missed. If nothing differs, it does nothing.
 *
 * With `snapshot`, the existing rows are published too, in batches with one transaction each. In
 * that case give a database or a pool, not a transaction. If a batch fails or the program ends,
 * call it again: it continues the snapshot.
 *
 * @param db A database, a pool or, without a snapshot, a transaction.
 * @param table The table's name as in SQL, such as `"public.users"` or `'"Shop"."Orders"'`, or the
 * result of {@linkcode watched}.
 * @throws {HarkError} `BAD_OPTION`, also if the table does not exist or cannot be watched;
 * `NO_PERMISSION` if the role does not own the table, or lacks `hark.grant_publish`; `TIMEOUT` if
 * the lock on the table is not free in time; `IN_TRANSACTION` for a snapshot inside a transaction;
 * `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, watch } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await watch(db, "public.users", { exclude: ["password"], ifChanged: true });
 * ```
 * @example With the rows that are there
 * ```ts
 * import { connect, watch } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await watch(db, "public.orders", {
 *   when: "new.total > 100 or old.total > 100",
 *   snapshot: { onProgress: ({ published }) => console.log(published) },
 * });
 * ```
 */
export function watch(
  db: Queryable,
  table: string,
  options?: WatchOptions,
): Promise<WatchResult>;
/** For a table from {@linkcode watched}: channel, name, payload and key are already set. */
export function watch(
  db: Queryable,
  table: AnyWatched,
  options?: Omit<WatchOptions, ToldByWatched>,
): Promise<WatchResult>;
export async function watch(
  db: Queryable,
  table: string | AnyWatched,
  options: WatchOptions = {},
): Promise<WatchResult> {
  requireQueryable(db);
  const told = tableAndOptions("watch", table, options, ["snapshot", "lockTimeout"]);
  const named = tableName(told.table);
  const values = definitionValues(told.options);
  const name = watchName(told.options.name);
  const wanted = snapshotOptions(options.snapshot);
  const wait = lockTimeout(options);
  await requireSchema(db);
  const { oid, outcome, before, made } = await translated(async () => {
    if (wanted !== undefined) await requireOwnTransactions(db);
    const oid = await requireTable(db, named);
    const before = await known(db, oid, name);
    // A table that already has a watch need not be locked again to begin a snapshot. If a snapshot
    // is in progress, hark.watch has to adapt it to the new definition.
    const begin = before === undefined ? wanted !== undefined : before.wanted;
    const outcome = await askLocking(
      db,
      `hark.watch($1::text::oid::regclass, ${definitionSql}, $15::boolean)`,
      [oid, ...values, begin],
      wait,
      named,
    ) as WatchResult["outcome"];
    const made = await known(db, oid, name) ?? noTable(named); // dropped in between
    return { oid, outcome, before, made };
  });
  const done = wanted === undefined ? undefined : await snapshot(db, oid, name, wanted);
  return {
    table: made.table,
    name,
    channel: made.channel,
    outcome,
    level: made.mode === "statement" ? "statement" : "row",
    reason: made.reason,
    // hark.watch itself publishes the existing rows of a table without a key. The count starts
    // again if the watch belongs to a table that was created anew.
    snapshot: done && {
      ...done,
      published: done.published + made.count -
        (before !== undefined && made.count >= before.count ? before.count : 0),
    },
  };
}

/**
 * Loads one watch. {@linkcode watches} returns more, for all watches, but inspects each table for
 * it.
 */
async function known(db: Queryable, oid: string, name: string): Promise<
  | {
    readonly table: string;
    readonly channel: string;
    readonly mode: string;
    readonly reason: string | null;
    readonly wanted: boolean;
    readonly count: number;
  }
  | undefined
> {
  const { rows } = await db.query(
    `select ${nameSql("k.relation")} as name, d ->> 'channel' as channel, d ->> 'mode' as mode,
      d ->> 'reason' as reason, (k.watch).snapshot_wanted as wanted, (k.watch).snapshot_count as count
    from hark.known_watches() k cross join lateral (select (k.watch).definition) x (d)
    where k.relation = $1::text::oid and (k.watch).name = $2::text`,
    [oid, name],
  );
  const [row] = rows;
  return row && {
    table: row.name,
    channel: row.channel,
    mode: row.mode,
    reason: row.reason,
    wanted: row.wanted,
    count: Number(row.count),
  };
}

/**
 * Returns the SQL that {@linkcode watch} would run, as a script to read, to review, or to keep in a
 * migration. Changes nothing.
 *
 * @throws {HarkError} The errors of {@linkcode watch}.
 * @example
 * ```ts
 * import { connect, watchSql } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await watchSql(db, "public.users", { payload: "key" }));
 * ```
 */
export function watchSql(
  db: Queryable,
  table: string,
  options?: WatchDefinition,
): Promise<string>;
/** For a table from {@linkcode watched}. */
export function watchSql(
  db: Queryable,
  table: AnyWatched,
  options?: Omit<WatchDefinition, ToldByWatched>,
): Promise<string>;
export async function watchSql(
  db: Queryable,
  table: string | AnyWatched,
  options: WatchDefinition = {},
): Promise<string> {
  requireQueryable(db);
  const told = tableAndOptions("watchSql", table, options);
  const named = tableName(told.table);
  const values = definitionValues(told.options);
  await requireSchema(db);
  return await translated(async () => {
    const oid = await requireTable(db, named);
    const { rows } = await db.query(
      `select hark.watch_sql($1::text::oid::regclass, ${definitionSql}) as script`,
      [oid, ...values],
    );
    return rows[0].script;
  });
}
