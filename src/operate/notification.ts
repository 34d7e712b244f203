/**
 * One notification, and what became of it.
 *
 * @module
 */

import { wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { logged, type LoggedNotification } from "./notifications.ts";
import { date, ms } from "./times.ts";

/**
 * Where a notification stands for a consumer:
 *
 * - `"handled"`: its position has passed it, or began after it, or the notification was discarded;
 * - `"unread"`: it will be delivered in its turn;
 * - `"waiting"`: it failed, is behind a failed one of its key, or will be replayed;
 * - `"dead"`: it was given up;
 * - `"filtered"`: it does not match the consumer's filter;
 * - `"foreign"`: it is not of the consumer's channels;
 * - `"absent"`: it is no longer in the log, and the consumer has kept nothing of it.
 */
export type Verdict =
  | "handled"
  | "unread"
  | "waiting"
  | "dead"
  | "filtered"
  | "foreign"
  | "absent";

/** What became of a notification at one consumer. */
export interface ConsumerVerdict {
  /** The consumer's name. */
  readonly consumer: string;
  /** Where the notification stands. */
  readonly verdict: Verdict;
  /**
   * Why it waits: `"failed"`, `"behind"` an earlier one of its key, `"running"` for long, `"replay"`,
   * `"retry"` from the dead letters, or `"newer"` than the programs of its workers. Null unless it
   * waits.
   */
  readonly state: string | null;
  /** How often it was tried; 0 if that is not known. */
  readonly attempts: number;
  /** When it is tried next, at the earliest; null if it is not, or waits behind another. */
  readonly nextAttemptAt: Date | null;
  /** Whether the consumer has a living worker. Otherwise what waits is tried when a worker runs. */
  readonly hasWorker: boolean;
  /** Whether the consumer is paused. */
  readonly isPaused: boolean;
  /** The message of its last error; null if there was none. */
  readonly error: string | null;
  /** When it last failed, or was given up; null if it has not failed. */
  readonly failedAt: Date | null;
}

/** The result of {@linkcode notification}. */
export interface NotificationDetails extends Omit<LoggedNotification, "channel" | "createdAt"> {
  /** The notification's channel; null if only its id is left. */
  readonly channel: string | null;
  /** When it was published; null if only its id is left. */
  readonly createdAt: Date | null;
  /** Whether it is in the log. If not, this is a copy that a consumer has kept. */
  readonly inLog: boolean;
  /** What became of it at each consumer, by name. */
  readonly consumers: readonly ConsumerVerdict[];
}

/**
 * One notification, with payload, headers and size, and what became of it at each consumer. From the
 * log; or from a dead letter or a retry, if cleanup has removed it from the log. Null if it is
 * nowhere.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, notification } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const found = await notification(db, 42);
 * for (const { consumer, verdict, error } of found?.consumers ?? []) {
 *   console.log(consumer, verdict, error);
 * }
 * ```
 */
export async function notification(
  db: Queryable,
  id: number,
): Promise<NotificationDetails | null> {
  return await readNotification(db, id, JSON.parse);
}

/** The same, with what parses payload and headers. */
export async function readNotification(
  db: Queryable,
  id: number,
  parse: (text: string) => unknown,
): Promise<NotificationDetails | null> {
  wholeNumber("id", id ?? NaN, 1, 1);
  await requireSchema(db);
  return await translated(async () => {
    const { rows: [row] } = await db.query(
      `select channel, key, payload, headers, ${
        ms("created_at")
      }, coalesce(bytes, 0) as bytes, problem, place
      from hark.notification($1::bigint)`,
      [id],
    );
    if (row === undefined) return null;
    const { rows } = await db.query(
      `select consumer, verdict, state, attempts, ${ms("next_attempt_at")}, error, ${
        ms("failed_at")
      }, has_worker, paused
      from hark.verdicts($1::bigint)`,
      [id],
    );
    return {
      id,
      ...logged(row, parse),
      inLog: row.place === "log",
      consumers: rows.map((one) => ({
        consumer: one.consumer,
        verdict: one.verdict,
        state: one.state,
        attempts: Number(one.attempts),
        nextAttemptAt: date(one.next_attempt_at),
        hasWorker: one.has_worker === true,
        isPaused: one.paused === true,
        error: one.error,
        failedAt: date(one.failed_at),
      })),
    };
  });
}
