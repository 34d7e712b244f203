/**
 * Consumers: their definitions, their workers, and the state of their partitions.
 *
 * @module
 */

import { consumerName, knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { requireSchema } from "../schema/migrate.ts";
import { type ConsumerStatus, consumerStatuses } from "./consumer_status.ts";
import type { StatusOptions } from "./status.ts";
import { date, ms } from "./times.ts";

/** One partition of a consumer: the unit of order, and the unit that a worker owns. */
export interface PartitionStatus {
  /** The partition's number, from 0. */
  readonly partition: number;
  /** How many committed notifications the partition's position has not passed. */
  readonly unread: number;
  /** When the oldest unread notification was published; null if there is none. */
  readonly oldestUnread: Date | null;
  /**
   * How many notifications the position has passed that are waiting: for a retry, or behind a
   * failed notification of the same key.
   */
  readonly waiting: number;
  /** Whether one of the waiting notifications has failed. */
  readonly blocked: boolean;
  /**
   * The worker that owns the partition, or that owned it when it ended without releasing it. Null
   * if there is none.
   */
  readonly owner: string | null;
  /** Whether that worker is alive. */
  readonly serving: boolean;
  /** That worker's host and process, such as `web-3:4711`; null if it is no longer known. */
  readonly worker: string | null;
  /** When that worker's lease ends; null if it is no longer known. */
  readonly leaseUntil: Date | null;
  /** How often the partition has changed owners. */
  readonly epoch: number;
  /** How many notifications of the partition have been handled, as far as workers have told. */
  readonly handled: number;
  /** When progress was last stored. */
  readonly acknowledgedAt: Date | null;
  /** When a worker last owned the partition. */
  readonly servedAt: Date | null;
  /** How many owners in a row have ended without releasing the partition. */
  readonly crashes: number;
  /**
   * The notification that is handled alone, to find out whether it is the one that crashes workers.
   * Null if there is none.
   */
  readonly tryingId: number | null;
}

/** A worker that serves a consumer: one run of it, in a process or a thread. */
export interface WorkerStatus {
  /** The worker's id, a new one for each run. */
  readonly owner: string;
  /** Its host and process, such as `web-3:4711`, and its thread if it has several; null if unknown. */
  readonly name: string | null;
  /**
   * Whether the worker is alive: its lease runs and, if it has a LISTEN session, that session
   * exists.
   */
  readonly alive: boolean;
  /** When its lease ends or ended. */
  readonly leaseUntil: Date;
  /** When the worker started. */
  readonly joinedAt: Date;
  /** Whether the worker has a session that hears LISTEN. Otherwise it polls. */
  readonly listening: boolean;
  /** The partitions that it owns. */
  readonly partitions: readonly number[];
}

/** A waiting notification: its consumer will try it again. */
export interface WaitingNotification {
  /** The notification's id. */
  readonly id: number;
  /** The notification's channel; null if the log no longer has the notification. */
  readonly channel: string | null;
  /** The notification's key; null if it has none. */
  readonly key: string | null;
  /** The consumer's partition that the notification belongs to. */
  readonly partition: number;
  /**
   * Why the notification waits: it has `failed`; its handler is still `running` while later
   * notifications went on; it is part of a `replay`; it is the `retry` of a dead letter; or it waits
   * for a worker of a `newer` program.
   */
  readonly state: "failed" | "newer" | "running" | "replay" | "retry";
  /** How often the notification was tried. */
  readonly attempts: number;
  /** When the notification is tried next, at the earliest. */
  readonly dueAt: Date;
  /** The message of the last error; null if there was none. */
  readonly error: string | null;
  /** When the notification last failed; null if it has not. */
  readonly failedAt: Date | null;
}

/** A range of notifications that a consumer will handle again: see {@linkcode replay}. */
export interface PendingReplay {
  /** The number that {@linkcode replay} returned. */
  readonly replay: number;
  /** The channels to replay; null for all of the consumer's channels. */
  readonly channels: readonly string[] | null;
  /** The next id that will be read. */
  readonly nextId: number;
  /** The last id of the range. */
  readonly toId: number;
}

/** Everything that is known about one consumer. */
export interface ConsumerDetails extends ConsumerStatus {
  /** The consumer's partitions, by number. */
  readonly partitionList: readonly PartitionStatus[];
  /**
   * The consumer's workers, by the time they started. Includes workers whose lease ended recently.
   */
  readonly workerList: readonly WorkerStatus[];
  /**
   * The notifications that the consumer will try again, the oldest first, at most 20. Notifications
   * that only wait behind these are left out.
   */
  readonly heads: readonly WaitingNotification[];
  /** The replays that have not finished. */
  readonly replayList: readonly PendingReplay[];
}

/**
 * Every consumer, by name: its definition, its progress and its workers. The same as `consumers` of
 * {@linkcode status}, without the size of the log.
 *
 * @throws {HarkError} `NO_SCHEMA`, `SCHEMA_OLD`, `SCHEMA_NEW`; `NO_PERMISSION` without
 * `hark.grant_consume`, `hark.grant_operate` or `hark.grant_observe`.
 * @example
 * ```ts
 * import { connect, consumers } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { consumer, workers, waiting, dead } of await consumers(db)) {
 *   console.log(consumer, workers, waiting, dead);
 * }
 * ```
 */
export async function consumers(
  db: Queryable,
  options: StatusOptions = {},
): Promise<ConsumerStatus[]> {
  return await listed("consumers", db, options);
}

async function listed(
  what: string,
  db: Queryable,
  options: StatusOptions,
): Promise<ConsumerStatus[]> {
  knownOptions(what, options, ["maxCount", "warnAfter"]);
  const maxCount = wholeNumber("maxCount", options.maxCount, 100_000, 1);
  await requireSchema(db);
  return await translated(() => consumerStatuses(db, maxCount));
}

/**
 * One consumer with its partitions, its workers, and the notifications that it will try again.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; otherwise the errors of {@linkcode consumers}.
 * @example
 * ```ts
 * import { connect, consumerDetails } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { id, attempts, error } of (await consumerDetails(db, "billing")).heads) {
 *   console.log(id, attempts, error);
 * }
 * ```
 */
export async function consumerDetails(
  db: Queryable,
  consumer: string,
  options: StatusOptions = {},
): Promise<ConsumerDetails> {
  const name = consumerName(consumer);
  const all = await listed("consumerDetails", db, options);
  const status = all.find((one) => one.consumer === name);
  if (status === undefined) {
    throw new HarkError("NO_CONSUMER", `there is no consumer "${name}"`, {
      remedy: all.length === 0
        ? "No consumer is registered yet."
        : `Registered are: ${all.slice(0, 20).map((one) => `"${one.consumer}"`).join(", ")}.`,
    });
  }
  return await translated(async () => ({
    ...status,
    partitionList: await partitionsOf(db, name, options.maxCount ?? 100_000),
    workerList: await workersOf(db, name),
    heads: await headsOf(db, name),
    replayList: await replaysOf(db, name),
  }));
}

/** The partitions of one consumer. */
export async function partitionsOf(
  db: Queryable,
  consumer: string,
  maxCount: number,
  maxScanned: number = 1_000_000,
): Promise<PartitionStatus[]> {
  const { rows } = await db.query(
    `select partition, unread, ${
      ms("oldest_unread")
    }, waiting, blocked, owner::text as owner, worker,
      ${ms("lease_until")}, epoch, handled, ${ms("acknowledged_at")}, ${ms("served_at")}, crashes,
      alone_id, served from hark.partitions_of($1::text, $2::bigint, $3::bigint)`,
    [consumer, maxCount, maxScanned],
  );
  return rows.map((row) => ({
    partition: Number(row.partition),
    unread: Number(row.unread),
    oldestUnread: date(row.oldest_unread),
    waiting: Number(row.waiting),
    blocked: row.blocked === true,
    owner: row.owner,
    serving: row.served === true,
    worker: row.worker,
    leaseUntil: date(row.lease_until),
    epoch: Number(row.epoch),
    handled: Number(row.handled),
    acknowledgedAt: date(row.acknowledged_at),
    servedAt: date(row.served_at),
    crashes: Number(row.crashes),
    tryingId: row.alone_id === null ? null : toId(row.alone_id),
  }));
}

/** The workers of one consumer. */
export async function workersOf(db: Queryable, consumer: string): Promise<WorkerStatus[]> {
  const { rows } = await db.query(
    `select owner::text as owner, name, alive, ${ms("lease_until")}, ${ms("joined_at")}, listening,
      array_to_json(partitions)::text as partitions from hark.workers_of($1::text)`,
    [consumer],
  );
  return rows.map(workerOf);
}

/** A worker as a row has it. */
// deno-lint-ignore no-explicit-any -- a row of a query
export function workerOf(row: any): WorkerStatus {
  return {
    owner: row.owner,
    name: row.name,
    alive: row.alive === true,
    leaseUntil: date(row.lease_until)!,
    joinedAt: date(row.joined_at)!,
    listening: row.listening === true,
    partitions: JSON.parse(row.partitions),
  };
}

/** What one consumer will try again: the oldest 20. */
export async function headsOf(db: Queryable, consumer: string): Promise<WaitingNotification[]> {
  const { rows } = await db.query(
    `select id, channel, key, partition, state, attempts, ${ms("due_at")}, last_error,
      ${ms("failed_at")} from hark.heads_of($1::text)`,
    [consumer],
  );
  return rows.map((row) => ({
    id: toId(row.id),
    channel: row.channel,
    key: row.key,
    partition: Number(row.partition),
    state: row.state,
    attempts: Number(row.attempts),
    dueAt: date(row.due_at)!,
    error: row.last_error,
    failedAt: date(row.failed_at),
  }));
}

/** The replays of one consumer that have not finished. */
export async function replaysOf(db: Queryable, consumer: string): Promise<PendingReplay[]> {
  const { rows } = await db.query(
    `select number, array_to_json(channels)::text as channels, next_id, to_id
      from hark.replays_of($1::text)`,
    [consumer],
  );
  return rows.map((row) => ({
    replay: toId(row.number),
    channels: row.channels === null ? null : JSON.parse(row.channels),
    nextId: toId(row.next_id),
    toId: toId(row.to_id),
  }));
}
