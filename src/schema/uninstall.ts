/**
 * Removes the schema `hark`.
 *
 * @module
 */

import { firstQuery, type Queryable } from "../database/queryable.ts";
import { sqlState } from "../database/driver_error.ts";
import { translate, translated } from "../database/translate.ts";

/** The result of {@linkcode uninstall}. */
export interface UninstallResult {
  /**
   * Trigger functions of watches on tables that another role owns, and those that something else in the
   * database needs. They no longer publish, and warn at each write until their owner drops them with
   * `cascade`. Usually empty.
   */
  readonly left: readonly LeftWatch[];
}

/** A trigger function that could not be removed. */
export interface LeftWatch {
  /** The function as in SQL, for `drop function … cascade`. */
  readonly function: string;
  /** The role that owns it and can drop it. */
  readonly owner: string;
  /** The tables that have triggers of this function, as in SQL. */
  readonly tables: readonly string[];
}

// One statement, so one transaction on any driver: either all tables stay watched, or nothing is
// left. Triggers stay on tables whose owner this role may not act for, and those whose function something
// else needs, such as a view. A lock that does not come rolls back everything.
const statement = `do $hark_uninstall$
declare
  w record;
begin
  if pg_catalog.to_regprocedure('hark.watches()') is not null then
    for w in execute 'select relation, relation_name, name from hark.watches()' loop
      begin
        if w.relation is null then
          execute 'select hark.forget_watch($1, $2)' using w.relation_name, w.name;
        else
          execute 'select hark.unwatch($1, $2)' using w.relation, w.name;
        end if;
      exception when deadlock_detected or lock_not_available then
        raise;
      when others then
        null;
      end;
    end loop;
  end if;
  drop schema if exists hark cascade;
end
$hark_uninstall$`;

/**
 * Removes the schema with every notification and every consumer, and the triggers of watched
 * tables. This cannot be undone.
 *
 * @returns The triggers that this role cannot remove: usually those on tables of other roles.
 * @throws {HarkError} `NO_PERMISSION` if the role does not own the schema.
 * @example
 * ```ts
 * import { connect, uninstall } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { left } = await uninstall(db);
 * for (const one of left) console.log(`as ${one.owner}: drop function ${one.function} cascade`);
 * ```
 */
export async function uninstall(db: Queryable): Promise<UninstallResult> {
  for (let attempt = 1;; attempt++) {
    try {
      await firstQuery(db, statement, undefined, false);
      break;
    } catch (error) {
      // Dropping locks all objects in an order of its own. Against a reader's order that can end in
      // a deadlock, of which the drop may be the victim: it tries again.
      const reason = translate(error);
      if (sqlState(reason) !== "40P01" || attempt === 5) throw reason;
    }
  }
  return { left: await translated(() => leftWatches(db)) };
}

async function leftWatches(db: Queryable): Promise<LeftWatch[]> {
  const { rows } = await db.query(
    `select p.oid::pg_catalog.regprocedure::text as function, pg_catalog.pg_get_userbyid(p.proowner)::text as owner,
      pg_catalog.json_agg(distinct t.tgrelid::pg_catalog.regclass::text)::text as tables
    from pg_catalog.pg_proc p join pg_catalog.pg_trigger t on t.tgfoid = p.oid
    where p.proname operator(pg_catalog.~) '^hark_watch_' and t.tgparentid operator(pg_catalog.=) 0
    group by p.oid, p.proowner order by 1`,
  );
  return rows.map((row) => ({
    function: row.function,
    owner: row.owner,
    tables: JSON.parse(row.tables),
  }));
}
