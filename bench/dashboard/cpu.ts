/**
 * The CPU time that the sessions of the dashboard have taken of the server.
 *
 * @module
 */

import type { Queryable } from "@hark/postgres";

/** What the sessions of the dashboard call themselves. */
export const applicationName = "hark-bench-dashboard";

/**
 * The CPU time of each of its sessions, by process id, in ms. The server reads it from /proc, in
 * hundredths of a second. Undefined where it may not, or has no /proc.
 */
export async function cpuMs(db: Queryable): Promise<ReadonlyMap<number, number> | undefined> {
  const { rows: [may] } = await db.query(
    `select has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute')
      and pg_read_file('/proc/self/stat', 0, 1000, true) is not null as may`,
  );
  if (may.may !== true) return undefined;
  const { rows } = await db.query(
    `select a.pid, string_to_array(
        split_part(pg_read_file(format('/proc/%s/stat', a.pid), 0, 1000, true), ') ', 2), ' ') as parts
    from pg_stat_activity a where a.application_name = $1 and a.datname = current_database()`,
    [applicationName],
  );
  // User and system time, behind the state and ten numbers.
  return new Map(rows.map(({ pid, parts }) => [pid, 10 * (Number(parts[11]) + Number(parts[12]))]));
}

/** How much time all sessions took between two looks, in ms. */
export function between(
  before: ReadonlyMap<number, number>,
  after: ReadonlyMap<number, number>,
): number {
  let sum = 0;
  for (const [pid, ms] of after) sum += ms - (before.get(pid) ?? 0);
  return sum;
}
