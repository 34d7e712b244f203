/**
 * Ending the watch of a table, and repairing one.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { askLocking, lockTimeout } from "./lock.ts";
import { type AnyWatched, isWatched, type LockOptions, watchName } from "./options.ts";
import { findTable, nameParts, noTable, requireTable, tableName } from "./table.ts";

/**
 * Stops publishing the changes of a table and removes the triggers. Published notifications stay.
 * Returns whether there was such a watch. Also ends a watch that an earlier owner of the table made.
 * If the table no longer exists, it removes what is left of the watch.
 *
 * @param options `name`: the watch's name if it is not `"watch"`. A table from `watched`
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
 * Repairs a watch after its table has changed (`drift` of `watches`). It creates the
 * triggers again from the definition of the watch, with its channel and with the present names of
 * its columns.
 *
 * @param options `name`: the watch's name if it is not `"watch"`. A table from `watched`
 * includes its name.
 * @returns `"replaced"`, or `"unchanged"` if there was no drift.
 * @throws {HarkError} `BAD_OPTION`, also if there is no such table or watch, or if columns that the
 * definition names are gone: call `watch` with a new definition then. `CONFLICT` if an
 * earlier owner of the table made the watch: call `watch` too. `NO_PERMISSION` if the role does not own the table; `TIMEOUT` if the lock on the table is not free in time;
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
