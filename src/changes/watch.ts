/**
 * Watching tables: triggers publish their changes.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { askLocking, lockTimeout } from "./lock.ts";
import {
  type AnyWatched,
  definitionSql,
  definitionValues,
  isWatched,
  type LockOptions,
  tableAndOptions,
  type ToldByWatched,
  watchName,
  type WatchOptions,
} from "./options.ts";
import {
  requireOwnTransactions,
  snapshot,
  snapshotOptions,
  type SnapshotResult,
} from "./snapshot.ts";
import { findTable, nameParts, nameSql, noTable, requireTable, tableName } from "./table.ts";

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
 * Stops publishing the changes of a table and removes the triggers. Published notifications stay.
 * Returns whether there was such a watch. Also ends a watch that an earlier owner of the table made.
 * If the table no longer exists, it removes what is left of the watch.
 *
 * @param options `name`: the watch's name if it is not `"watch"`. A table from {@linkcode watched}
 * includes its name.
 * @throws {HarkError} `BAD_OPTION`, also if there is no such table; `NO_PERMISSION` if the role
 * does not own the table; `TIMEOUT` if the lock on the table is not free in time; `NO_SCHEMA` and
 * so on.
 * @example
 * ```ts
 * import { connect, unwatch } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await unwatch(db, "public.users") ? "not watched any more" : "was not watched");
 * ```
 */
export async function unwatch(
  db: Queryable,
  table: string | AnyWatched,
  options: LockOptions & { readonly name?: string } = {},
): Promise<boolean> {
  const { named, name, wait } = whichWatch("unwatch", db, table, options);
  await requireSchema(db);
  return await translated(async () => {
    const oid = await findTable(db, named);
    const call = "hark.unwatch($1::text::oid::regclass, $2::text)";
    if (oid !== undefined && await askLocking(db, call, [oid, name], wait, named) === true) {
      return true;
    }
    // The remains of a watch are found by the name that the table had, as stored: without quotes.
    for (const stored of new Set([named, nameParts(named)?.join(".") ?? named])) {
      const { rows } = await db.query("select hark.forget_watch($1::text, $2::text) as gone", [
        stored,
        name,
      ]);
      if (rows[0].gone === true) return true;
    }
    return oid === undefined ? noTable(named) : false;
  });
}

/**
 * Repairs a watch after its table has changed (`drift` of {@linkcode watches}). It creates the
 * triggers again from the definition of the watch, with its channel and with the present names of
 * its columns.
 *
 * @param options `name`: the watch's name if it is not `"watch"`. A table from {@linkcode watched}
 * includes its name.
 * @returns `"replaced"`, or `"unchanged"` if there was no drift.
 * @throws {HarkError} `BAD_OPTION`, also if there is no such table or watch, or if columns that the
 * definition names are gone: call {@linkcode watch} with a new definition then. `CONFLICT` if an
 * earlier owner of the table made the watch: call {@linkcode watch} too. `NO_PERMISSION` if the role does not own the table; `TIMEOUT` if the lock on the table is not free in time;
 * `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, rewatch, watches } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { table, name, exists, drift } of await watches(db)) {
 *   if (exists && drift.length > 0) await rewatch(db, table, { name });
 * }
 * ```
 */
export async function rewatch(
  db: Queryable,
  table: string | AnyWatched,
  options: LockOptions & { readonly name?: string } = {},
): Promise<"replaced" | "unchanged"> {
  const { named, name, wait } = whichWatch("rewatch", db, table, options);
  await requireSchema(db);
  return await translated(async () => {
    const oid = await requireTable(db, named);
    const call = "hark.rewatch($1::text::oid::regclass, $2::text)";
    return await askLocking(db, call, [oid, name], wait, named) as "replaced" | "unchanged";
  });
}

/** Checks the arguments of {@linkcode unwatch} and {@linkcode rewatch}. */
function whichWatch(
  what: string,
  db: Queryable,
  table: string | AnyWatched,
  options: LockOptions & { readonly name?: string },
): { named: string; name: string; wait: ReturnType<typeof lockTimeout> } {
  requireQueryable(db);
  knownOptions(what, options, ["name", "lockTimeout"]);
  const isTold = isWatched(table);
  if (isTold && options.name !== undefined) {
    bad("name", options.name, "Leave it out: watched() defines it.");
  }
  return {
    named: tableName(isTold ? table.table : table),
    name: watchName(isTold ? table.name : options.name),
    wait: lockTimeout(options),
  };
}
