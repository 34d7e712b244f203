/**
 * The connection on which one statement takes the fewest round trips.
 *
 * @module
 */

import { connectionsOf } from "./database.ts";
import type { Queryable, QueryResult } from "./queryable.ts";
import { translate } from "./translate.ts";

/**
 * Runs each statement on a connection of the pool that is idle. If none is, or if it turns out to be lost,
 * the statement runs on `session`. So it may run twice.
 *
 * @param over Ends what is under way on the pool when it aborts.
 */
export function quick(db: Queryable, session: Queryable, over?: AbortSignal): Queryable {
  const connections = connectionsOf(db);
  if (connections === undefined) return session;
  return {
    async query(text: string, values: unknown[] = []): Promise<QueryResult> {
      if (!connections.pool.hasIdle) return await session.query(text, values);
      try {
        return await connections.queryUntil(over, text, values);
      } catch (error) {
        // While the program was frozen, the server may have ended it.
        if (translate(error).code !== "UNREACHABLE" || over?.aborted) throw error;
        return await session.query(text, values);
      }
    },
  };
}
