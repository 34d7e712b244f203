/**
 * A connection that tells of each answer.
 *
 * @module
 */

import { attachPrepared, queryPrepared } from "./prepared.ts";
import type { Queryable, QueryResult } from "./queryable.ts";

/** Runs statements on the session that `session` returns at that moment, and calls `answered` with each answer. */
export function counted(
  session: () => Queryable,
  answered: (result: QueryResult) => void,
): Queryable {
  const told = (result: QueryResult) => {
    answered(result);
    return result;
  };
  const query: Queryable["query"] = async (text, values) =>
    told(await session().query(text, values));
  attachPrepared<Queryable>(
    query,
    async (text, values) => told(await queryPrepared(session(), text, values)),
  );
  return { query };
}
