/**
 * Removes the schema `hark`.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translate, translated } from "../database/translate.ts";

/** What {@linkcode uninstall} could not remove. */
export interface UninstallResult {
  /**
   * Trigger functions of watches whose tables are another role's: they publish nothing any more and warn at
   * each write, until their owner drops them, which also drops the triggers. Usually none.
   */
  readonly left: readonly LeftWatch[];
}

/** A trigger function that was left behind. */
export interface LeftWatch {
  /** The function, as in SQL: `drop function … cascade`. */
  readonly function: string;
  /** Who owns it, and can drop it. */
  readonly owner: string;
  /** The tables with its triggers, as in SQL. */
  readonly tables: readonly string[];
}

// One statement, so one transaction on any driver: tables stay watched, or nothing is left of it. Of roles that
// it may not act for, the triggers stay; a deadlock and the like ends all of it.
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
      exception when insufficient_privilege then
        null;
      end;
    end loop;
  end if;
  drop schema if exists hark cascade;
end
$hark_uninstall$`;

/**
 * Removes the schema with every notification and every consumer, and the triggers of watched tables. There
 * is no way back.
 *
 * @returns What was left, as this role may not remove it: triggers on tables of others.
 * @throws {HarkError} `NO_PERMISSION` where the role does not own the schema.
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
      await db.query(statement);
      break;
    } catch (error) {
      // Dropping locks everything in an order of its own; against a reader's it may have to give way.
      const reason = translate(error);
      const { code } = (reason.cause ?? {}) as { code?: unknown };
      if (code !== "40P01" || attempt === 5) throw reason;
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
