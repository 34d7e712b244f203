/**
 * Waiting until one session waits for another.
 *
 * @module
 */

import type { Client } from "./connect.ts";
import { until } from "./until.ts";

/**
 * Waits until a statement waits for a lock that the client's session holds.
 *
 * @param statement A part of the statement. Others may wait too, such as autovacuum.
 */
export async function waitsFor(client: Client, statement: string): Promise<void> {
  await until(async () => {
    // In a transaction a session goes on seeing what others did when it looked first.
    await client.query("select pg_stat_clear_snapshot()");
    const { rows } = await client.query(
      `select from pg_stat_activity a
       where pg_backend_pid() = any (pg_blocking_pids(a.pid)) and strpos(a.query, $1) > 0`,
      [statement],
    );
    return rows.length > 0;
  }, { what: `${statement} to wait for a lock` });
}
