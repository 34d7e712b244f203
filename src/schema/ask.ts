/**
 * Questions to the server.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "./migrate.ts";

/** Runs a query if the server has the schema that this program needs, and gives its rows. */
export async function ask(
  db: Queryable,
  text: string,
  values: unknown[] = [],
  // deno-lint-ignore no-explicit-any -- rows are as Queryable has them
): Promise<any[]> {
  await requireSchema(db);
  const { rows } = await translated(() => db.query(text, values));
  return rows;
}
