/**
 * The workers of all consumers.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { workerOf, type WorkerStatus } from "./consumers.ts";
import { ms } from "./times.ts";

/** A worker, and the consumer that it serves. */
export interface ListedWorker extends WorkerStatus {
  /** The consumer. */
  readonly consumer: string;
}

/** The workers of these consumers, at most 1,000, by consumer and the time they started. */
export async function allWorkers(
  db: Queryable,
  consumers: readonly string[],
): Promise<ListedWorker[]> {
  const { rows } = await translated(() =>
    db.query(
      `select n.name as consumer, w.owner::text as owner, w.name, w.alive, ${
        ms("w.lease_until", "lease_until")
      },
        ${
        ms("w.joined_at", "joined_at")
      }, w.listening, array_to_json(w.partitions)::text as partitions
      from json_array_elements_text($1::text::json) n (name) cross join lateral hark.workers_of(n.name) w
      order by 1, w.joined_at limit 1000`,
      [JSON.stringify(consumers)],
    )
  );
  return rows.map((row) => ({ consumer: row.consumer, ...workerOf(row) }));
}
