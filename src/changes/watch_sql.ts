/**
 * The SQL of watching a table, and of taking that back, for migrations.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import {
  type AnyWatched,
  definitionSql,
  definitionValues,
  isWatched,
  tableAndOptions,
  type ToldByWatched,
  type WatchDefinition,
  watchName,
} from "./options.ts";
import { nameSql, requireTable, tableName } from "./table.ts";

/**
 * Returns the SQL that {@linkcode watch} would run, as a script to read, to review, or to keep in a
 * migration. Changes nothing. {@linkcode unwatchSql} gives the reverse. The script begins and ends no
 * transaction: run it in one, as migration tools and `psql -1` do.
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

/**
 * Returns the SQL that takes back what {@linkcode watchSql} gives, for the other direction of a
 * migration. It removes the watch with its triggers and its function, as {@linkcode unwatch} does,
 * and does nothing if there is no such watch. Changes nothing itself.
 *
 * @param options `name`: the watch's name if it is not `"watch"`. A table from {@linkcode watched}
 * includes its name.
 * @throws {HarkError} `BAD_OPTION`, also if there is no such table; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, unwatchSql } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await unwatchSql(db, "public.users"));
 * ```
 */
export async function unwatchSql(
  db: Queryable,
  table: string | AnyWatched,
  options: { readonly name?: string } = {},
): Promise<string> {
  requireQueryable(db);
  knownOptions("unwatchSql", options, ["name"]);
  const isTold = isWatched(table);
  if (isTold && options.name !== undefined) {
    bad("name", options.name, "Leave it out: watched() defines it.");
  }
  const named = tableName(isTold ? table.table : table);
  const name = watchName(isTold ? table.name : options.name);
  await requireSchema(db);
  return await translated(async () => {
    const oid = await requireTable(db, named);
    const { rows } = await db.query(
      `select pg_catalog.format(E'select hark.unwatch(%L, %L);\\n',
        ${nameSql("$1::text::oid")}, $2::text) as script`,
      [oid, name],
    );
    return rows[0].script;
  });
}
