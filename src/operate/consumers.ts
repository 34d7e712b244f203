/**
 * Consumers: what each is, who serves it, how its partitions stand.
 *
 * @module
 */

import { consumerName, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { requireSchema } from "../schema/migrate.ts";
import { type ConsumerStatus, consumerStatuses, type StatusOptions } from "./status.ts";
import { date, ms } from "./times.ts";

/** One partition of a consumer: the unit of order, and of what a worker holds. */
export interface PartitionStatus {
  /** Its number, from 0. */
  readonly partition: number;
  /** How many committed notifications it has not passed. */
  readonly unread: number;
  /** When the oldest of these was published. */
  readonly oldestUnread: Date | null;
  /** How many it has passed that wait to be tried again, or behind such a one of their key. */
  readonly waiting: number;
  /** Whether one of these has failed. */
  readonly blocked: boolean;
  /** The worker that holds it, or did when it ended without giving it back; null where none does. */
  readonly owner: string | null;
  /** That worker's host and process, such as `web-3:4711`; null if it is not known any more. */
  readonly worker: string | null;
  /** Until when that worker's lease runs; null where that is not known any more. */
  readonly leaseUntil: Date | null;
  /** How often it has changed hands. */
  readonly epoch: number;
  /** How many notifications it has handled. */
  readonly handled: number;
  /** When its progress was stored last. */
  readonly acknowledgedAt: Date | null;
  /** When a worker held it last. */
  readonly servedAt: Date | null;
  /** How many of its owners in a row have ended without giving it back. */
  readonly crashes: number;
  /** The notification that is handled alone, to find out whether it is what ends them. */
  readonly tryingId: number | null;
}

/** A worker that serves a consumer: one run of it, in a process or a thread. */
export interface WorkerStatus {
  /** Its number, made anew for each run. */
  readonly owner: string;
  /** Its host and process, such as `web-3:4711`, and its thread in one of several; null if unknown. */
  readonly name: string | null;
  /** Whether its lease runs. */
  readonly alive: boolean;
  /** Until when its lease runs, or ran. */
  readonly leaseUntil: Date;
  /** When it began. */
  readonly joinedAt: Date;
  /** Whether it has a session that hears LISTEN; else it polls. */
  readonly listening: boolean;
  /** The partitions it holds. */
  readonly partitions: readonly number[];
}

/** A notification that a consumer is to try again. */
export interface WaitingNotification {
  /** Its id. */
  readonly id: number;
  /** Its channel; null where the log has it no more. */
  readonly channel: string | null;
  /** Its key. */
  readonly key: string | null;
  /** Its partition. */
  readonly partition: number;
  /** Why it waits: it has `failed`, is still `running` while others went on, is a `replay`, or a `retry` of a dead letter. */
  readonly state: "failed" | "running" | "replay" | "retry";
  /** How often it was tried. */
  readonly attempts: number;
  /** When it is tried next, at the earliest. */
  readonly dueAt: Date;
  /** The last error's message. */
  readonly error: string | null;
  /** When it failed last. */
  readonly failedAt: Date | null;
}

/** A range that a consumer is still to handle once more: see {@linkcode replay}. */
export interface PendingReplay {
  /** The number {@linkcode replay} gave. */
  readonly replay: number;
  /** The channels it is about; null for all of the consumer's. */
  readonly channels: readonly string[] | null;
  /** The next id to be looked at. */
  readonly nextId: number;
  /** The last one. */
  readonly toId: number;
}

/** All there is to know of one consumer. */
export interface ConsumerDetails extends ConsumerStatus {
  /** Its partitions, by number. */
  readonly partitionList: readonly PartitionStatus[];
  /** Its workers, by when they began; also those whose lease has ended lately. */
  readonly workerList: readonly WorkerStatus[];
  /** What it is to try again, the oldest first, at most 20. What only waits behind these is left out. */
  readonly heads: readonly WaitingNotification[];
  /** What it is still to handle once more. */
  readonly replayList: readonly PendingReplay[];
}

/**
 * Every consumer, by name: what it is, how far, who serves it. The same as `consumers` of
 * {@linkcode status}, without the size of the log.
 *
 * @throws {HarkError} `NO_SCHEMA`, `SCHEMA_OLD`, `SCHEMA_NEW`; `NO_PERMISSION` without
 * `hark.grant_consume` or `hark.grant_operate`.
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
  const maxCount = wholeNumber("maxCount", options.maxCount, 100_000, 1);
  await requireSchema(db);
  return await translated(() => consumerStatuses(db, maxCount));
}

/**
 * One consumer with its partitions, its workers, and what it is to try again.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; otherwise as {@linkcode consumers}.
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
  const all = await consumers(db, options);
  const status = all.find((one) => one.consumer === name);
  if (status === undefined) {
    throw new HarkError("NO_CONSUMER", `there is no consumer "${name}"`, {
      remedy: all.length === 0
        ? "None is registered yet."
        : `There are: ${all.slice(0, 20).map((one) => `"${one.consumer}"`).join(", ")}.`,
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

async function partitionsOf(
  db: Queryable,
  consumer: string,
  maxCount: number,
): Promise<PartitionStatus[]> {
  const { rows } = await db.query(
    `select partition, unread, ${
      ms("oldest_unread")
    }, waiting, blocked, owner::text as owner, worker,
      ${ms("lease_until")}, epoch, handled, ${ms("acknowledged_at")}, ${ms("served_at")}, crashes,
      trying_id from hark.partitions_of($1::text, $2::bigint)`,
    [consumer, maxCount],
  );
  return rows.map((row) => ({
    partition: Number(row.partition),
    unread: Number(row.unread),
    oldestUnread: date(row.oldest_unread),
    waiting: Number(row.waiting),
    blocked: row.blocked === true,
    owner: row.owner,
    worker: row.worker,
    leaseUntil: date(row.lease_until),
    epoch: Number(row.epoch),
    handled: Number(row.handled),
    acknowledgedAt: date(row.acknowledged_at),
    servedAt: date(row.served_at),
    crashes: Number(row.crashes),
    tryingId: row.trying_id === null ? null : toId(row.trying_id),
  }));
}

async function workersOf(db: Queryable, consumer: string): Promise<WorkerStatus[]> {
  const { rows } = await db.query(
    `select owner::text as owner, name, alive, ${ms("lease_until")}, ${ms("joined_at")}, listening,
      array_to_json(partitions)::text as partitions from hark.workers_of($1::text)`,
    [consumer],
  );
  return rows.map((row) => ({
    owner: row.owner,
    name: row.name,
    alive: row.alive === true,
    leaseUntil: date(row.lease_until)!,
    joinedAt: date(row.joined_at)!,
    listening: row.listening === true,
    partitions: JSON.parse(row.partitions),
  }));
}

async function headsOf(db: Queryable, consumer: string): Promise<WaitingNotification[]> {
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

async function replaysOf(db: Queryable, consumer: string): Promise<PendingReplay[]> {
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
