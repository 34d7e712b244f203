/**
 * Finds the table that a caller names.
 *
 * @module
 */

import { bad, text } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { serverError } from "../database/driver_error.ts";
import { translate } from "../database/translate.ts";
import { HarkError } from "../errors.ts";

const remedy = 'Give it with its schema, such as "public.users". PostgreSQL reads a name without ' +
  `double quotes in lower case: '"Shop"."Orders"'.`;

/** Checks a table name that a caller gave. */
export function tableName(value: unknown): string {
  if (typeof value !== "string" || value.trim() === "") {
    bad("table", value, 'Give its name, such as "public.users".');
  }
  return text("table", value, "BAD_OPTION");
}

/** The parts of a name, read as PostgreSQL reads it; undefined if PostgreSQL would refuse it. */
export function nameParts(name: string): string[] | undefined {
  const part = /\s*(?:"((?:[^"]|"")+)"|([^\s".]+))\s*(\.|$)/y;
  const parts: string[] = [];
  for (let more = true; more;) {
    const found = part.exec(name);
    if (found === null) return undefined;
    const [, quoted, plain, dot] = found;
    parts.push(
      quoted?.replaceAll('""', '"') ?? plain!.replaceAll(/[A-Z]/g, (one) => one.toLowerCase()),
    );
    more = dot === ".";
  }
  return parts;
}

/** The oid of the table with that name, as text; undefined if there is no such table. */
export async function findTable(db: Queryable, table: string): Promise<string | undefined> {
  try {
    const { rows } = await db.query(
      "select pg_catalog.to_regclass($1::text)::pg_catalog.oid::pg_catalog.text as oid",
      [table],
    );
    return rows[0].oid ?? undefined;
  } catch (error) {
    const translated = translate(error);
    const server = serverError(translated);
    // The codes for text that cannot be a name: an open quote, too many dots, another database.
    if (!/^(42602|42601|0A000)$/.test(server?.code ?? "")) throw translated;
    throw new HarkError(
      "BAD_OPTION",
      `${table} is not the name of a table: ${server?.message}`,
      {
        cause: translated.cause,
        remedy,
      },
    );
  }
}

/** The oid of the table with that name. Throws if there is no such table. */
export async function requireTable(db: Queryable, table: string): Promise<string> {
  return await findTable(db, table) ?? noTable(table);
}

/** Throws the error for a table that does not exist. */
export function noTable(table: string): never {
  throw new HarkError("BAD_OPTION", `there is no table ${table}`, { remedy });
}

/**
 * A SQL expression for a table's name with its schema, whatever the search path. Null if the table
 * does not exist.
 */
export function nameSql(oid: string): string {
  return `(select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = ${oid})`;
}
