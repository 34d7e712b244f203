/**
 * The consumers that hold back cleanup.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";

/**
 * Why a consumer holds back {@linkcode cleanup}:
 *
 * - `"behind"`: its position has not passed a notification that is old enough;
 * - `"inactive"`: no worker serves it;
 * - `"paused"`: the consumer is paused;
 * - `"waiting"`: a notification that is old enough waits for a retry;
 * - `"replaying"`: a notification that is old enough will be replayed.
 */
export type HoldingReason = "behind" | "inactive" | "paused" | "waiting" | "replaying";

/** A consumer for which notifications are kept that are old enough to be removed. */
export interface HoldingConsumer {
  /** The consumer's name. */
  readonly consumer: string;
  /** When the oldest notification that is kept for it was published. */
  readonly oldest: Date;
  /** Why notifications are kept for it. */
  readonly reasons: readonly HoldingReason[];
}

/**
 * Lists the consumers for which notifications from before a time are kept, the furthest behind
 * first.
 */
export async function holding(db: Queryable, before: Date): Promise<HoldingConsumer[]> {
  return await translated(async () => {
    const { rows } = await db.query(
      `select consumer, (extract(epoch from oldest) * 1000)::float8 as oldest, behind, waiting,
        replaying, workers = 0 as inactive, paused_at is not null as paused
      from hark.holding($1::text::timestamptz)`,
      [before.toISOString()],
    );
    return rows.map((row) => ({
      consumer: row.consumer,
      oldest: new Date(Number(row.oldest)),
      reasons: (["behind", "inactive", "paused", "waiting", "replaying"] as const)
        .filter((reason) => row[reason] === true),
    }));
  });
}

/** The time this many ms ago by the server's clock, which also dates the notifications. */
export async function timeAgo(db: Queryable, age: number): Promise<Date> {
  return await translated(async () => {
    const { rows } = await db.query(
      "select (extract(epoch from clock_timestamp()) * 1000)::float8 as now",
    );
    return new Date(Number(rows[0].now) - age);
  });
}
