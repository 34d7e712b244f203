/**
 * The people of a database: who installed Hark, who owns a table, who writes to it, and a stranger.
 *
 * @module
 */

import { type Client, install, type Row, type TestContext } from "../../harness/mod.ts";
import { type Role, role } from "../../schema/_support/role.ts";

/** A role and a session of its own. */
export interface Person extends Role {
  readonly client: Client;
  /** Runs a statement as this role. */
  sql(text: string, values?: unknown[]): Promise<Row[]>;
}

/** Who takes part. */
export interface People {
  /** Owns Hark's schema, and is no superuser. */
  readonly hark: Person;
  /** Owns `shop` and the tables in it, and may publish. */
  readonly owner: Person;
  /** May write to `shop.orders` and nothing else. */
  readonly writer: Person;
  /** May publish, and has a schema of its own. */
  readonly other: Person;
}

/** Makes one more. */
export async function person(context: TestContext, options?: { owner: boolean }): Promise<Person> {
  const its = await role(context, options);
  const client = await context.client(its.url);
  return { ...its, client, sql: async (text, values) => (await client.query(text, values)).rows };
}

/** Makes the people. For a test with `{ schema: false }`: Hark is installed by a role of its own. */
export async function people(context: TestContext): Promise<People> {
  const { sql } = context;
  const hark = await person(context, { owner: true });
  await install(hark.url);
  const [owner, writer, other] = [
    await person(context),
    await person(context),
    await person(context),
  ];
  await sql(`create schema shop authorization ${owner.name};
    create schema other authorization ${other.name};
    grant usage on schema shop to ${writer.name}, ${other.name}`);
  for (const { name } of [owner, other]) await hark.sql("select hark.grant_publish($1)", [name]);
  await owner.sql(`create table shop.orders (id integer primary key, item text, price numeric);
    grant select, insert, update, delete, truncate on shop.orders to ${writer.name}, ${other.name}`);
  return { hark, owner, writer, other };
}
