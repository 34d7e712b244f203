/**
 * How the dashboard reads: in a transaction that cannot write, and whose statements end by
 * themselves.
 *
 * @module
 */

import type { Database } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";

/** Reads in one transaction. The server refuses writes in it, and ends a statement that takes long. */
export async function reading<T>(
  db: Database,
  timeout: number,
  work: (tx: Queryable) => Promise<T>,
): Promise<T> {
  return await db.transaction(async (tx) => {
    await tx.query(
      `select set_config('transaction_read_only', 'on', true),
        set_config('statement_timeout', $1::text, true), set_config('lock_timeout', $1::text, true)`,
      [String(timeout)],
    );
    return await work(tx);
  });
}
