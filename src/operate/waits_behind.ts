/**
 * What a notification waits for.
 *
 * @module
 */

import { toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { date, ms } from "./times.ts";

/** What a notification waits for at one consumer that has not finished with it. */
export interface Wait {
  /** The consumer. */
  readonly consumer: string;
  /** The notification's partition. */
  readonly partition: number;
  /** The worker that owns the partition, by its host and process; null if none does. */
  readonly worker: string | null;
  /** Whether that worker is alive. */
  readonly alive: boolean;
  /** When its lease ends or ended. */
  readonly leaseUntil: Date | null;
  /** The earlier notification of its key that has to be finished first; null if there is none. */
  readonly holder: {
    readonly id: number;
    readonly state: string;
    readonly attempts: number;
    readonly dueAt: Date;
    readonly error: string | null;
  } | null;
}

/** What a notification waits for, by consumer. */
export async function waitsBehind(db: Queryable, id: number): Promise<Wait[]> {
  const { rows } = await translated(() =>
    db.query(
      `select consumer, partition, worker, alive, ${
        ms("lease_until")
      }, holder_id, holder_state, holder_attempts,
        ${ms("holder_due_at")}, holder_error
      from hark.waits_behind($1::bigint)`,
      [id],
    )
  );
  return rows.map((row) => ({
    consumer: row.consumer,
    partition: Number(row.partition),
    worker: row.worker,
    alive: row.alive === true,
    leaseUntil: date(row.lease_until),
    holder: row.holder_id === null ? null : {
      id: toId(row.holder_id),
      state: row.holder_state,
      attempts: Number(row.holder_attempts),
      dueAt: date(row.holder_due_at)!,
      error: row.holder_error,
    },
  }));
}
