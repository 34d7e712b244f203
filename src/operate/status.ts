/**
 * How far everybody is.
 *
 * @module
 */

import { toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema, schemaVersion } from "../schema/migrate.ts";

/** Options of {@linkcode status}. */
export interface StatusOptions {
  /** Counting stops here, a consumer's unread notifications and the log's; more cost no more. @default {100000} */
  readonly maxCount?: number;
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

/** How far one consumer is. */
export interface ConsumerStatus {
  /** Its name. */
  readonly consumer: string;
  /** Its partition; 0 where it has one. */
  readonly partition: number;
  /** The channels it reads. */
  readonly channels: readonly string[];
  /** How many committed notifications it has not acknowledged; at most `maxCount`. */
  readonly unread: number;
  /** Whether counting stopped at `maxCount`: there may be more. */
  readonly unreadCapped: boolean;
  /** When the oldest unread one was published; null where all are read. */
  readonly oldestUnread: Date | null;
  /** The age of the oldest unread one, in seconds; 0 where all are read. */
  readonly lagSeconds: number;
  /** Whether a worker holds its lease. */
  readonly serving: boolean;
  /** The worker that serves it, or did last; null where none does. */
  readonly owner: string | null;
  /** Until when that worker holds it unless it renews. */
  readonly leaseUntil: Date | null;
  /** How many notifications it has handled. */
  readonly handled: number;
  /** When its progress was stored last. */
  readonly acknowledgedAt: Date | null;
  /** What it fails on; null where nothing does. */
  readonly failing: FailingNotification | null;
  /** When it was registered. */
  readonly createdAt: Date;
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

/** What {@linkcode status} found. */
export interface Status {
  /** The version of the schema. */
  readonly schemaVersion: number;
  /** The size of the log. */
  readonly log: LogStatus;
  /** Every consumer, by name and partition. */
  readonly consumers: readonly ConsumerStatus[];
}

/**
 * How far every consumer is, who serves it, what it fails on, and how large the log is. Reads only.
 *
 * @throws {HarkError} `NO_SCHEMA`, `SCHEMA_OLD`, `SCHEMA_NEW`; `NO_PERMISSION` without
 * `hark.grant_consume`.
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
  const maxCount = wholeNumber("maxCount", options.maxCount, 100_000, 1);
  await requireSchema(db);
  return await translated(async () => {
    // Times travel as milliseconds: drivers differ in what they make of a timestamptz.
    const { rows } = await db.query(
      `select consumer, array_to_json(channels)::text as channels, partition, unread,
        ${ms("oldest_unread")}, lag_seconds, owner::text as owner, ${ms("lease_until")},
        coalesce(lease_until > clock_timestamp(), false) as serving, handled,
        ${ms("acknowledged_at")}, failing_id, attempts, last_error, ${ms("failed_at")}, ${
        ms("created_at")
      } from hark.status($1::bigint)`,
      [maxCount],
    );
    const log = await db.query(
      `select pg_total_relation_size('hark.log'::regclass) as bytes,
        has_table_privilege('hark.log', 'select') as readable, case
        when s.n_live_tup > 0 then s.n_live_tup else greatest(c.reltuples, 0)::bigint end as rows
        from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
        where c.oid = 'hark.log'::regclass`,
    );
    const { bytes, rows: estimate, readable } = log.rows[0];
    const counted = readable ? await countLog(db, maxCount + 1) : undefined;
    const exact = counted !== undefined && counted <= maxCount;
    return {
      schemaVersion,
      log: {
        rows: exact ? counted : Math.max(Number(estimate), counted ?? 0),
        exact,
        bytes: Number(bytes),
      },
      consumers: rows.map((row) => consumerStatus(row, maxCount)),
    };
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

function ms(column: string): string {
  return `(extract(epoch from ${column}) * 1000)::float8 as ${column}`;
}

function date(value: unknown): Date | null {
  return value === null ? null : new Date(Number(value));
}

// deno-lint-ignore no-explicit-any -- a row as a driver gives it
function consumerStatus(row: any, maxCount: number): ConsumerStatus {
  const unread = Number(row.unread);
  return {
    consumer: row.consumer,
    partition: Number(row.partition),
    channels: JSON.parse(row.channels),
    unread,
    unreadCapped: unread >= maxCount,
    oldestUnread: date(row.oldest_unread),
    lagSeconds: Number(row.lag_seconds),
    serving: row.serving === true,
    owner: row.owner,
    leaseUntil: date(row.lease_until),
    handled: Number(row.handled),
    acknowledgedAt: date(row.acknowledged_at),
    failing: row.failing_id === null ? null : {
      id: toId(row.failing_id),
      attempts: Number(row.attempts),
      error: row.last_error,
      failedAt: date(row.failed_at),
    },
    createdAt: date(row.created_at)!,
  };
}
