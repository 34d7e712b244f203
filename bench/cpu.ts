/**
 * The CPU time of processes on the server's machine. The server reads it from /proc.
 *
 * @module
 */

import type { Database } from "@hark/postgres";

/** A tick of the kernel's counts, in milliseconds. */
const tick = 10;

/** The CPU time of a process, in milliseconds. */
export interface CpuTime {
  readonly own: number;
  /** Of its children that have ended. */
  readonly ended: number;
  readonly parent: number;
}

/** The CPU time of processes, by their numbers. The server reads it, as it may. */
export async function cpuOf(
  db: Database,
  pids: readonly number[],
): Promise<Map<number, CpuTime>> {
  const { rows } = await db.query(
    "select pid, pg_read_file(format('/proc/%s/stat', pid)) as stat from unnest($1::int[]) pid",
    [pids],
  );
  return new Map(rows.map(({ pid, stat }) => {
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
    return [pid, {
      own: (fields[11] + fields[12]) * tick,
      ended: (fields[13] + fields[14]) * tick,
      parent: fields[1],
    }];
  }));
}

/** The CPU time of the server for a reader's sessions, by process, in milliseconds. */
export async function sessionsOf(db: Database): Promise<Map<number, number>> {
  const { rows } = await db.query(
    `select pid from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend'
      and pid <> pg_backend_pid() and application_name <> 'pgbench'`,
  );
  const times = await cpuOf(db, rows.map(({ pid }) => pid));
  return new Map([...times].map(([pid, { own }]) => [pid, own]));
}

/** The CPU time of sessions since an earlier look, in milliseconds. */
export function since(before: ReadonlyMap<number, number>, now: ReadonlyMap<number, number>) {
  let sum = 0;
  for (const [pid, cpu] of now) sum += cpu - (before.get(pid) ?? 0);
  return sum;
}
