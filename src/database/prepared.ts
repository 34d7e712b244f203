/**
 * Statements that run again and again. Connections of Hark's own keep them prepared on the server.
 * This module needs no driver and nothing of Node's, so that programs can publish without either.
 *
 * @module
 */

import { firstQuery, type Queryable, type QueryResult } from "./queryable.ts";

// A registered symbol instead of instanceof: a module of consumers may have imported another copy
// of this package than the program that runs it.
const prepared = Symbol.for("@hark/postgres:prepared:1");

type Query = Queryable["query"] & { [prepared]?: Queryable["query"] };

/**
 * Attaches the prepared variant to one of Hark's own `query` methods. It hangs on the method and
 * not on the object. So a caller that replaces `query`, for example to take part in a transaction,
 * gets these statements through its own `query` as well.
 */
export function attachPrepared<T extends Queryable>(
  method: T["query"],
  run: (this: T, text: string, values: unknown[]) => Promise<QueryResult>,
): void {
  Object.defineProperty(method, prepared, { value: run });
}

/** Runs one of these statements, prepared if the connection is one of Hark's own. */
export function queryPrepared(
  db: Queryable,
  text: string,
  values: unknown[],
): Promise<QueryResult> {
  return (db.query as Query)[prepared]?.call(db, text, values) ?? firstQuery(db, text, values);
}
