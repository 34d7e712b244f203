/**
 * Watching tables: their changes are published by triggers.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { queryable } from "../publish/notify.ts";
import { requireSchema } from "../schema/migrate.ts";
import { askLocking, lockTimeout } from "./lock.ts";
import {
  type AnyWatched,
  definitionSql,
  definitionValues,
  type LockOptions,
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
import { findTable, nameParts, nameSql, noTable, requireTable, tableName } from "./table.ts";

/** What {@linkcode watch} did. */
export interface WatchResult {
  /** The table, with its schema, as in SQL. */
  readonly table: string;
  /** The watch's name. */
  readonly name: string;
  /** The channel it publishes on. */
  readonly channel: string;
  /** Whether the table had no watch of that name, another one, or this one. */
  readonly outcome: "created" | "replaced" | "unchanged";
  /** Whether its triggers run once a statement, or for each row. */
  readonly level: "statement" | "row";
  /** Why not once a statement; null where there is nothing to say. */
  readonly reason: string | null;
  /** What the snapshot did; undefined where none was asked for. */
  readonly snapshot: SnapshotResult | undefined;
}

/**
 * Publishes the changes of a table from now on: each insert, update and delete in the transaction that
 * makes it, by whatever program, under the row's key. To be called where the schema is looked after,
 * such as in a migration: it puts triggers on the table, which needs its owner, and waits for open
 * transactions that have written to it, for `lockTimeout` at most.
 *
 * Watching again under the same name replaces what was told before, and repairs what has drifted, in
 * one step: no change is missed. Where nothing differs, nothing is done.
 *
 * With `snapshot`, what is there already is published too, batch by batch, each in a transaction of its
 * own. So give a database or a pool then, not a transaction. Where a batch fails, or the program ends,
 * call it again: it goes on where it was.
 *
 * @param db Where no snapshot is asked for, also a transaction.
 * @param table Its name as in SQL, such as `"public.users"` or `'"Shop"."Orders"'`, or what
 * {@linkcode watched} has made.
 * @throws {HarkError} `BAD_OPTION`, also for a table that is not there or cannot be watched;
 * `NO_PERMISSION` without ownership of the table or `hark.grant_publish`; `TIMEOUT` where the table is not
 * free in time; `IN_TRANSACTION` for a snapshot within a transaction; `NO_SCHEMA` and so on.
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
/** A table that {@linkcode watched} has told of: channel, name, payload and key are known. */
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
  queryable(db);
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
    // A table that has a watch need not be locked for a snapshot. One that is under way has to learn of changes.
    const begin = before === undefined ? wanted !== undefined : before.wanted;
    const outcome = await askLocking(
      db,
      `hark.watch($1::text::oid::regclass, ${definitionSql}, $15::boolean)`,
      [oid, ...values, begin],
      wait,
      named,
    ) as WatchResult["outcome"];
    const made = await known(db, oid, name) ?? noTable(named); // it was dropped meanwhile
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
    // Rows without a key are published by hark.watch itself. A watch of a table that was made anew counts anew.
    snapshot: done && {
      ...done,
      published: done.published + made.count -
        (before !== undefined && made.count >= before.count ? before.count : 0),
    },
  };
}

/** What is known of a watch. {@linkcode watches} tells more, of all of them, for which it looks at each table. */
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
 * The SQL that {@linkcode watch} would run, as a script: to read, to review, to keep in a migration.
 * Nothing is changed.
 *
 * @throws {HarkError} as {@linkcode watch}.
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
/** Of a table that {@linkcode watched} has told of. */
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
  queryable(db);
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

/**
 * Stops publishing the changes of a table, and removes the triggers. What is published stays. Returns
 * whether there was such a watch. Of a table that is gone, it removes what is left of the watch.
 *
 * @param options `name`: the watch's name, where it is not `"watch"`; {@linkcode watched} knows it.
 * @throws {HarkError} `BAD_OPTION`, also where there is no such table; `NO_PERMISSION` without ownership of
 * the table; `TIMEOUT` where the table is not free in time; `NO_SCHEMA` and so on.
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
    // What is left of a watch goes by the name that the table had, as it is stored: without quotes.
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
 * Repairs a watch after its table has changed (`drift` of {@linkcode watches}): makes the triggers anew, as
 * they were told to be, with the channel they had and the names that columns have now.
 *
 * @param options `name`: the watch's name, where it is not `"watch"`; {@linkcode watched} knows it.
 * @returns `"replaced"`, or `"unchanged"` where nothing was amiss.
 * @throws {HarkError} `BAD_OPTION`, also where there is no such table or watch, or where columns that it names
 * are gone: say with {@linkcode watch} what is to be watched then. `NO_PERMISSION` without ownership of the
 * table; `TIMEOUT` where the table is not free in time; `NO_SCHEMA` and so on.
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

/** Checks what {@linkcode unwatch} and {@linkcode rewatch} are given. */
function whichWatch(
  what: string,
  db: Queryable,
  table: string | AnyWatched,
  options: LockOptions & { readonly name?: string },
): { named: string; name: string; wait: ReturnType<typeof lockTimeout> } {
  queryable(db);
  knownOptions(what, options, ["name", "lockTimeout"]);
  const isTold = table !== null && typeof table === "object";
  if (isTold && options.name !== undefined) bad("name", options.name, "watched() was told it.");
  return {
    named: tableName(isTold ? table.table : table),
    name: watchName(isTold ? table.name : options.name),
    wait: lockTimeout(options),
  };
}
