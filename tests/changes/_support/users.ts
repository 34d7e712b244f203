/**
 * A table of users.
 *
 * @module
 */

import { connect, type Database, type Watched, watched } from "../../../mod.ts";
import type { TestContext } from "../../harness/mod.ts";

/** A row of it. */
export interface User {
  id: number;
  email: string;
  age: number | null;
}

/** The table, typed. */
export const users: Watched<User, "full", number> = watched<User, "id">("public.users");

/** A database that has the table. */
export async function withUsers({ url, sql, use }: TestContext): Promise<Database> {
  await sql("create table users (id integer primary key, email text not null, age integer)");
  return use(await connect(url));
}
