/**
 * What a role is told that may not install or upgrade the schema.
 *
 * @module
 */

import { serverError } from "../database/driver_error.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { HarkError } from "../errors.ts";

const rolesSql = `select pg_catalog.to_json(current_user::text)::text as role,
  pg_catalog.quote_ident(current_user) as role_in_sql,
  pg_catalog.quote_ident(pg_catalog.current_database()) as database_in_sql,
  pg_catalog.current_database()::text as database,
  (select pg_catalog.pg_get_userbyid(d.datdba)::text from pg_catalog.pg_database d
    where d.datname operator(pg_catalog.=) pg_catalog.current_database()) as database_owner,
  (select pg_catalog.pg_get_userbyid(n.nspowner)::text from pg_catalog.pg_namespace n
    where n.nspname operator(pg_catalog.=) 'hark') as owner`;

/** The error for a role without the right to install or upgrade: it names the role that has it. */
export async function mayNotInstall(db: Queryable, cause: unknown): Promise<HarkError> {
  const reason = serverError(cause)?.message ?? messageOf(cause);
  // In a transaction that has failed, no query can ask for the roles.
  const roles = await db.query(rolesSql).then(({ rows }) => rows[0], () => undefined);
  const made = (what: string, remedy: string) =>
    new HarkError("NO_PERMISSION", `${what}: ${reason}`, { cause, remedy });
  if (roles === undefined) {
    return made(
      "the schema cannot be installed or upgraded",
      "Only its owner or a superuser may upgrade it. To install it: connect as the owner of the " +
        "database, or run: grant create on database … to this role.",
    );
  }
  const { role, role_in_sql, database_in_sql, database, database_owner, owner } = roles;
  const command = (as: string) =>
    `hark init --database-url postgres://${encodeURIComponent(as)}@HOST/${
      encodeURIComponent(database)
    }`;
  if (typeof owner === "string") {
    const named = JSON.stringify(owner);
    return made(
      `role ${role} may not upgrade the schema "hark"`,
      named === role
        ? `Only a superuser may, and gives its owner ${named} all of it: ${command("SUPERUSER")}`
        : `Only its owner ${named} or a superuser may: ${command(owner)}`,
    );
  }
  return made(
    `role ${role} may not install the schema, so it cannot be installed`,
    `The owner ${JSON.stringify(database_owner)} of the database or a superuser may: ` +
      `${command(database_owner)}. Or give the role the right: ` +
      `grant create on database ${database_in_sql} to ${role_in_sql}`,
  );
}
