/**
 * How far everybody is.
 *
 * @module
 */

import { type WatchStatus, watchStatuses } from "../changes/watches.ts";
import { knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { schemaVersion } from "../schema/version.ts";
import { days, daysAgo, holding, type HoldingConsumer } from "./holding.ts";
import { date, ms } from "./times.ts";

/** Options of {@linkcode status}. */
export interface StatusOptions {
  /**
   * Counting stops here: a consumer's unread notifications, the log's, the delayed; more cost no more.
   * @default {100000}
   */
  readonly maxCount?: number;
  /**
   * Warn of consumers because of whom notifications are kept that are older than so many days, fractions
   * allowed. @default {7}
   */
  readonly warnDays?: number;
}

/** The notification that a consumer fails on at present. */
export interface FailingNotification {
  /** Its id. */
  readonly id: number;
  /** How often it was tried. */
  readonly attempts: number;
  /** The last error's message. */
  readonly error: string | null;
  /** When it failed last. */
  readonly failedAt: Date | null;
}

/** What one consumer is, how far it is, and who serves it. */
export interface ConsumerStatus {
  /** Its name. */
  readonly consumer: string;
  /** The channels it reads. */
  readonly channels: readonly string[];
  /** What it wants of these: keys, and what payload and headers contain; null for everything. */
  readonly filter: Readonly<Record<string, unknown>> | null;
  /** Whether its handlers' writes commit together with its position. */
  readonly transactional: boolean;
  /** How often it has become something else, by other channels, another filter and the like; from 1. */
  readonly generation: number;
  /** Into how many partitions it is divided. */
  readonly partitions: number;
  /** Into how many it will be, once its workers have read to a common point; else null. */
  readonly nextPartitions: number | null;
  /** Since when it is paused; null where it is not. */
  readonly pausedAt: Date | null;
  /** When it was registered. */
  readonly createdAt: Date;
  /** How many committed notifications it has not passed; at most `maxCount`. */
  readonly unread: number;
  /** Whether counting stopped at `maxCount`: there may be more. */
  readonly unreadCapped: boolean;
  /** When the oldest unread one was published; null where all are read. */
  readonly oldestUnread: Date | null;
  /** The age of the oldest unread one, in seconds; 0 where all are read. */
  readonly lagSeconds: number;
  /** How many it has passed that wait to be tried again, or behind such a one of their key; at most `maxCount`. */
  readonly waiting: number;
  /** When the one that waits with the lowest id was published; null where none waits. */
  readonly oldestWaiting: Date | null;
  /** In how many partitions something has failed that is to be tried again. */
  readonly blocked: number;
  /** How many dead letters it has; at most `maxCount`. */
  readonly dead: number;
  /** How many replays it has not been through. */
  readonly replays: number;
  /** How many workers it has: those whose lease runs. */
  readonly workers: number;
  /** How many of its partitions these hold. */
  readonly served: number;
  /** Whether a worker holds one of its partitions. */
  readonly serving: boolean;
  /** A worker that serves it, or ended without a word; null where none does. */
  readonly owner: string | null;
  /** That worker's host and process, such as `web-3:4711`; null if it is not known any more. */
  readonly worker: string | null;
  /** Until when that worker holds it unless it renews. */
  readonly leaseUntil: Date | null;
  /** When its progress was stored last, or a worker took or gave back a partition. */
  readonly servedAt: Date | null;
  /** How many notifications it has handled. */
  readonly handled: number;
  /** When its progress was stored last. */
  readonly acknowledgedAt: Date | null;
  /** What it fails on, the oldest; null where nothing does. */
  readonly failing: FailingNotification | null;
}

/** How large the log is. */
export interface LogStatus {
  /** How many notifications it holds; where `exact` is false, by the server's statistics. */
  readonly rows: number;
  /** Whether they were counted: not beyond `maxCount`, nor by a role that may not read the table. */
  readonly exact: boolean;
  /** Its size on disk with its indexes, in bytes. */
  readonly bytes: number;
}

/** What waits to be delivered later. */
export interface DelayedStatus {
  /** How many notifications do, of all channels; at most `maxCount`. */
  readonly count: number;
  /** Whether counting stopped at `maxCount`: there may be more. */
  readonly capped: boolean;
  /**
   * When the first of them is due; null where none waits. Workers and subscriptions deliver it, so where this is
   * more than moments ago none runs.
   */
  readonly nextAt: Date | null;
}

/** What {@linkcode status} found. */
export interface Status {
  /** The version of the schema. */
  readonly schemaVersion: string;
  /** The size of the log. */
  readonly log: LogStatus;
  /** What was published with `delay` or `deliverAt` and is not in the log yet. */
  readonly delayed: DelayedStatus;
  /** Every consumer, by name. */
  readonly consumers: readonly ConsumerStatus[];
  /** Who holds back {@linkcode cleanup} and needs somebody to look, the furthest behind first. */
  readonly warnings: readonly HoldingConsumer[];
  /** Every watched table; `drift` says what is not as it should be any more. */
  readonly watches: readonly WatchStatus[];
}

/**
 * How far every consumer is, who serves it, what it fails on, who holds back old notifications, how
 * large the log is, and which tables are watched. Reads only.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_SCHEMA`, `SCHEMA_OLD`, `SCHEMA_NEW`; `NO_PERMISSION` without
 * `hark.grant_consume` or `hark.grant_operate`.
 * @example
 * ```ts
 * import { connect, status } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { consumer, unread, lagSeconds } of (await status(db)).consumers) {
 *   console.log(consumer, unread, lagSeconds);
 * }
 * ```
 */
export async function status(db: Queryable, options: StatusOptions = {}): Promise<Status> {
  knownOptions("status", options, ["maxCount", "warnDays"]);
  const maxCount = wholeNumber("maxCount", options.maxCount, 100_000, 1);
  const warnDays = days("warnDays", options.warnDays ?? 7);
  await requireSchema(db);
  return await translated(async () => {
    const consumers = await consumerStatuses(db, maxCount);
    const log = await db.query(
      `select sum(pg_total_relation_size(c.oid)) as bytes,
        bool_and(has_table_privilege('hark.log', 'select')) as readable,
        sum(case when s.n_live_tup > 0 then s.n_live_tup else greatest(c.reltuples, 0)::bigint end) as rows
        from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
        where c.oid = 'hark.log'::regclass and c.relkind = 'r'
          or c.oid in (select i.inhrelid from pg_inherits i where i.inhparent = 'hark.log'::regclass)`,
    );
    const { bytes, rows: estimate, readable } = log.rows[0];
    const counted = readable ? await countLog(db, maxCount + 1) : undefined;
    const exact = counted !== undefined && counted <= maxCount;
    const before = await daysAgo(db, warnDays);
    const { rows: [later] } = await db.query(
      `select waiting, ${ms("next_at")} from hark.delayed_status($1::bigint)`,
      [maxCount],
    );
    return {
      schemaVersion,
      log: {
        rows: exact ? counted : Math.max(Number(estimate), counted ?? 0),
        exact,
        bytes: Number(bytes),
      },
      delayed: {
        count: Number(later.waiting),
        capped: Number(later.waiting) >= maxCount,
        nextAt: date(later.next_at),
      },
      consumers,
      warnings: worthWarning(await holding(db, before), consumers, before),
      watches: await watchStatuses(db),
    };
  });
}

// A worker that lives and has nothing to read stores its position only now and then, so what it holds
// back of others' channels is no reason to look.
function worthWarning(
  holding: readonly HoldingConsumer[],
  consumers: readonly ConsumerStatus[],
  before: Date,
): HoldingConsumer[] {
  return holding.filter(({ consumer, reasons }) => {
    const { oldestUnread = null } = consumers.find((one) => one.consumer === consumer) ?? {};
    return reasons.some((reason) => reason !== "behind") ||
      (oldestUnread !== null && oldestUnread < before);
  });
}

// Statistics are empty after a crash, and late for a small table.
async function countLog(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query(
    "select count(*) as count from (select from hark.log limit $1::bigint) l",
    [limit],
  );
  return Number(rows[0].count);
}

const statusSql =
  `select consumer, array_to_json(channels)::text as channels, filter::text as filter,
  transactional, generation, partitions, next_partitions, ${ms("paused_at")}, ${ms("created_at")},
  unread, ${ms("oldest_unread")}, lag_seconds, waiting, ${
    ms("oldest_waiting")
  }, blocked, dead, replays,
  workers, served, owner::text as owner, worker, ${ms("lease_until")}, ${ms("served_at")}, handled,
  ${ms("acknowledged_at")}, failing_id, attempts, last_error, ${ms("failed_at")}
from hark.status($1::bigint)`;

/** Every consumer, by name. */
export async function consumerStatuses(db: Queryable, maxCount: number): Promise<ConsumerStatus[]> {
  const { rows } = await db.query(statusSql, [maxCount]);
  return rows.map((row) => consumerStatus(row, maxCount));
}

// deno-lint-ignore no-explicit-any -- a row as a driver gives it
function consumerStatus(row: any, maxCount: number): ConsumerStatus {
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
    unreadCapped: unread >= maxCount,
    oldestUnread: date(row.oldest_unread),
    lagSeconds: Number(row.lag_seconds),
    waiting: Number(row.waiting),
    oldestWaiting: date(row.oldest_waiting),
    blocked: Number(row.blocked),
    dead: Number(row.dead),
    replays: Number(row.replays),
    workers: Number(row.workers),
    served: Number(row.served),
    serving: Number(row.served) > 0,
    owner: row.owner,
    worker: row.worker,
    leaseUntil: date(row.lease_until),
    servedAt: date(row.served_at),
    handled: Number(row.handled),
    acknowledgedAt: date(row.acknowledged_at),
    failing: row.failing_id === null ? null : {
      id: toId(row.failing_id),
      attempts: Number(row.attempts),
      error: row.last_error,
      failedAt: date(row.failed_at),
    },
  };
}
