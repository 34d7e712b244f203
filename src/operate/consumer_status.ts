/**
 * The status of each consumer.
 *
 * @module
 */

import { toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { date, ms } from "./times.ts";

/** The notification that a consumer currently fails on. */
export interface FailingNotification {
  /** The notification's id. */
  readonly id: number;
  /** How many notifications fail: this one, the oldest, and others; at most `maxCount`. */
  readonly count: number;
  /** How often the notification was tried. */
  readonly attempts: number;
  /** The message of the last error. */
  readonly error: string | null;
  /** When the notification last failed. */
  readonly failedAt: Date | null;
  /**
   * When the notification is tried next, at the earliest, if the consumer has a worker. Otherwise it
   * is tried when a worker runs. To have it tried at once: {@linkcode retry}.
   */
  readonly nextAttemptAt: Date;
}

/**
 * A partition whose worker reads no further until what waits in it is handled or given up. The
 * number of partitions cannot be changed while one is halted.
 */
export interface HaltedPartition {
  /** The partition's number, from 0. */
  readonly partition: number;
  /**
   * `"blocked"`: a notification failed, and the consumer has `onFailure: "block"`. `"full"`:
   * `maxWaiting` notifications wait.
   */
  readonly reason: "blocked" | "full";
  /** The id of the notification that holds the partition up. With `"full"`, the first of them. */
  readonly id: number;
  /** Its key; null if it has none. */
  readonly key: string | null;
  /** How often it was tried. */
  readonly attempts: number;
  /** The message of its last error; null if there was none. */
  readonly error: string | null;
}

/**
 * The notifications that a newer version of the program has published, and that the running workers
 * do not know. They wait, and later ones of their keys behind them, until a newer worker comes.
 */
export interface NewerNotifications {
  /** How many there are, without those behind them; at most `maxCount`. */
  readonly count: number;
  /** The id of the first. */
  readonly id: number;
  /** Why it waits: the version that it has, and the version that its worker knows. */
  readonly reason: string;
}

/** Workers that sleep until they are woken: see the option `idle`. */
export interface SleepingWorkers {
  /** How many there are. */
  readonly workers: number;
  /** The host and process of the one that fell asleep last; null if it is not known. */
  readonly worker: string | null;
  /** Since when that one sleeps. */
  readonly since: Date;
  /** When the first of them wakes by itself. */
  readonly wakesAt: Date;
  /** Whether NOTIFY wakes one of them. Otherwise only a request does. */
  readonly listening: boolean;
}

/** One consumer: its definition, its progress and its workers. */
export interface ConsumerStatus {
  /** The consumer's name. */
  readonly consumer: string;
  /** The channels it reads. */
  readonly channels: readonly string[];
  /** The filter on key, payload and headers; null if the consumer takes every notification. */
  readonly filter: Readonly<Record<string, unknown>> | null;
  /** Whether a handler's writes commit together with the fact that its notification is handled. */
  readonly transactional: boolean;
  /**
   * The number of the current definition, from 1. It rises when channels, filter and the like
   * change.
   */
  readonly generation: number;
  /** The number of partitions. */
  readonly partitions: number;
  /**
   * The number of partitions after a change that is in progress: the workers first read to a common
   * point. Null if there is no such change.
   */
  readonly nextPartitions: number | null;
  /** When the consumer was paused; null if it is not paused. */
  readonly pausedAt: Date | null;
  /** When the consumer was registered. */
  readonly createdAt: Date;
  /**
   * How many committed notifications the consumer has not passed; at most `maxCount`. Counting also
   * stops after 1,000,000 ids of the log, and soon after 5 seconds for all consumers together.
   */
  readonly unread: number;
  /** Whether counting stopped, so that there may be more. */
  readonly unreadCapped: boolean;
  /** When the oldest unread notification was published; null if none was found. */
  readonly oldestUnread: Date | null;
  /**
   * The age of the oldest unread notification, in seconds; 0 if there is none. If counting stopped
   * before one was found: of the first, of any channel, that the consumer has not passed.
   */
  readonly lagSeconds: number;
  /**
   * How many notifications the consumer has passed that are waiting: for a retry, or behind a
   * failed notification of the same key. At most `maxCount`.
   */
  readonly waiting: number;
  /** When the waiting notification with the lowest id was published; null if none waits. */
  readonly oldestWaiting: Date | null;
  /** The age of that notification, in seconds; 0 if none waits. */
  readonly waitingSeconds: number;
  /** The number of partitions in which a failed notification waits for a retry. */
  readonly blocked: number;
  /** The number of dead letters; at most `maxCount`. */
  readonly dead: number;
  /** The number of replays that have not finished. */
  readonly replays: number;
  /**
   * The number of living workers: those whose lease runs and, if they have a LISTEN session, whose
   * session exists.
   */
  readonly workers: number;
  /** The number of these workers that own no partition, and stand by. */
  readonly standingBy: number;
  /** The workers that sleep; null if none does. They own no partition, and do not count as living. */
  readonly asleep: SleepingWorkers | null;
  /** The number of partitions that living workers own. */
  readonly served: number;
  /** Whether a living worker owns at least one partition. */
  readonly serving: boolean;
  /**
   * The id of a worker that serves the consumer, or that ended without releasing its partitions.
   * Null if there is none.
   */
  readonly owner: string | null;
  /** That worker's host and process, such as `web-3:4711`; null if it is no longer known. */
  readonly worker: string | null;
  /** When that worker's lease ends unless it renews it. */
  readonly leaseUntil: Date | null;
  /** When progress was last stored, or a worker last took or released a partition. */
  readonly servedAt: Date | null;
  /** How many notifications the consumer has handled. */
  readonly handled: number;
  /** When progress was last stored. */
  readonly acknowledgedAt: Date | null;
  /** The oldest notification that has failed and waits for a retry; null if there is none. */
  readonly failing: FailingNotification | null;
  /** The partitions that are held up; empty if none is. */
  readonly halted: readonly HaltedPartition[];
  /** What waits for a worker of a newer program; null if nothing does. */
  readonly newer: NewerNotifications | null;
}

const statusSql =
  `select consumer, array_to_json(channels)::text as channels, filter::text as filter,
  transactional, generation, partitions, next_partitions, ${ms("paused_at")}, ${ms("created_at")},
  unread, ${ms("oldest_unread")}, lag_seconds, waiting, ${
    ms("oldest_waiting")
  }, blocked, dead, replays,
  s.workers, standing_by, served, owner::text as owner, worker, ${ms("lease_until")}, ${
    ms("served_at")
  }, handled,
  ${ms("acknowledged_at")}, failing_id, attempts, last_error, ${ms("failed_at")}, ${
    ms("next_attempt_at")
  }, unread_capped, halted::text as halted, newer::text as newer, waiting_seconds, failing,
  a.workers as asleep, a.name as sleeper, ${ms("a.since", "asleep_since")}, ${
    ms("a.wakes_at", "wakes_at")
  }, a.listening as sleeper_listening
from hark.status($1::bigint, $2::integer, $3::bigint) s left join hark.sleeping() a using (consumer)
order by consumer`;

/**
 * Every consumer, by name. Counting stops at `maxScanned` ids for each, and soon after `maxMs` for all
 * of them.
 */
export async function consumerStatuses(
  db: Queryable,
  maxCount: number,
  maxMs: number = 5000,
  maxScanned: number = 1_000_000,
): Promise<ConsumerStatus[]> {
  const { rows } = await db.query(statusSql, [maxCount, maxMs, maxScanned]);
  return rows.map(consumerStatus);
}

function haltedPartitions(text: string | null): HaltedPartition[] {
  // deno-lint-ignore no-explicit-any -- rows of hark.halted_of
  return JSON.parse(text ?? "[]").map((row: any) => ({
    partition: row.partition,
    reason: row.reason,
    id: toId(row.id),
    key: row.key,
    attempts: row.attempts,
    error: row.last_error,
  }));
}

// deno-lint-ignore no-explicit-any -- a row with the driver's types
function consumerStatus(row: any): ConsumerStatus {
  const unread = Number(row.unread);
  return {
    consumer: row.consumer,
    channels: JSON.parse(row.channels),
    filter: row.filter === null ? null : JSON.parse(row.filter),
    transactional: row.transactional === true,
    generation: Number(row.generation),
    partitions: Number(row.partitions),
    nextPartitions: row.next_partitions === null ? null : Number(row.next_partitions),
    pausedAt: date(row.paused_at),
    createdAt: date(row.created_at)!,
    unread,
    unreadCapped: row.unread_capped === true,
    oldestUnread: date(row.oldest_unread),
    lagSeconds: Number(row.lag_seconds),
    waiting: Number(row.waiting),
    oldestWaiting: date(row.oldest_waiting),
    waitingSeconds: Number(row.waiting_seconds),
    blocked: Number(row.blocked),
    dead: Number(row.dead),
    replays: Number(row.replays),
    workers: Number(row.workers),
    standingBy: Number(row.standing_by),
    asleep: row.asleep === null ? null : {
      workers: Number(row.asleep),
      worker: row.sleeper,
      since: date(row.asleep_since)!,
      wakesAt: date(row.wakes_at)!,
      listening: row.sleeper_listening === true,
    },
    served: Number(row.served),
    serving: Number(row.served) > 0,
    owner: row.owner,
    worker: row.worker,
    leaseUntil: date(row.lease_until),
    servedAt: date(row.served_at),
    handled: Number(row.handled),
    acknowledgedAt: date(row.acknowledged_at),
    halted: haltedPartitions(row.halted),
    newer: row.newer === null ? null : JSON.parse(row.newer),
    failing: row.failing_id === null ? null : {
      id: toId(row.failing_id),
      count: Number(row.failing),
      attempts: Number(row.attempts),
      error: row.last_error,
      failedAt: date(row.failed_at),
      nextAttemptAt: date(row.next_attempt_at)!,
    },
  };
}

/**
 * Whether a consumer has something to do, or may have: of one that is very far behind, what it has to
 * read may not have been found.
 */
export function hasWork({ unread, unreadCapped, waiting, replays }: ConsumerStatus): boolean {
  return unreadCapped || unread + waiting + replays > 0;
}

/** How old, in seconds, something unread may be before it seems that a sleeping worker was not woken. */
const wakingTime = 60;

/**
 * Whether workers sleep, and rightly so: nothing that was published waits for them. What is retried later
 * wakes them when it is due.
 */
export function sleepsWell({ asleep, unread, lagSeconds }: ConsumerStatus): boolean {
  return asleep !== null && (unread === 0 || lagSeconds < wakingTime);
}
