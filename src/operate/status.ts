/**
 * The status of all consumers, of the log and of the watched tables.
 *
 * @module
 */

import { type WatchStatus, watchStatuses } from "../changes/watches.ts";
import { knownOptions, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { aDay, ageBounds, type Duration, durationMs } from "../duration.ts";
import { type InboxStatus, inboxStatuses } from "../inbox/status.ts";
import { type RelayStatus, relayStatuses } from "./relays.ts";
import { requireSchema } from "../schema/migrate.ts";
import { schemaVersion } from "../schema/version.ts";
import { type ConsumerStatus, consumerStatuses } from "./consumer_status.ts";
import { holding, type HoldingConsumer, timeAgo } from "./holding.ts";
import { type RetentionSetting, retentionSettings } from "./retention.ts";
import { type SchedulesStatus, schedulesStatus } from "./schedules.ts";
import { date, ms } from "./times.ts";

/** Options of {@linkcode status}. */
export interface StatusOptions {
  /**
   * Stop counting at this many notifications. It limits the count of a consumer's unread
   * notifications, of the log, and of delayed notifications, so that a longer backlog costs no
   * more.
   * @default {100000}
   */
  readonly maxCount?: number;
  /**
   * Warn about consumers for which notifications are kept that are older than this: a
   * {@linkcode Duration} of 0 to 100,000 days.
   * @default {"7d"}
   */
  readonly warnAfter?: Duration;
}

/** The size of the log. */
export interface LogStatus {
  /** The number of notifications in the log. If `exact` is false: by the server's statistics. */
  readonly rows: number;
  /**
   * Whether the notifications were counted. Hark does not count beyond `maxCount`, and cannot count
   * if the role may not read the table.
   */
  readonly exact: boolean;
  /** The size on disk with indexes, in bytes. */
  readonly bytes: number;
}

/** The delayed notifications. */
export interface DelayedStatus {
  /** The number of delayed notifications on all channels; at most `maxCount`. */
  readonly count: number;
  /** Whether counting stopped at `maxCount`, so that there may be more. */
  readonly capped: boolean;
  /**
   * When the first delayed notification is due; null if there is none. Workers and subscriptions
   * deliver due notifications. A time more than moments in the past therefore means that none is
   * running.
   */
  readonly nextAt: Date | null;
}

/** The result of {@linkcode status}. */
export interface Status {
  /** The version of the installed schema. */
  readonly schemaVersion: string;
  /** The size of the log. */
  readonly log: LogStatus;
  /**
   * The notifications that were published with `delay` or `deliverAt` and are not in the log yet.
   */
  readonly delayed: DelayedStatus;
  /** What is published again and again, by {@linkcode schedule}. */
  readonly schedules: SchedulesStatus;
  /** Every inbox, by name. Its dead letters are counted up to `maxCount`. */
  readonly inboxes: readonly InboxStatus[];
  /** Every relay, by name: its targets, and what it waits for. */
  readonly relays: readonly RelayStatus[];
  /** How long notifications are kept. Empty if nothing is ever removed by itself. */
  readonly retention: readonly RetentionSetting[];
  /** Every consumer, by name. */
  readonly consumers: readonly ConsumerStatus[];
  /**
   * The consumers that hold back {@linkcode cleanup} and need attention, the furthest behind first.
   */
  readonly warnings: readonly HoldingConsumer[];
  /** Every watched table. `drift` lists what differs from the definition of the watch. */
  readonly watches: readonly WatchStatus[];
}

/**
 * The status of every consumer, the consumers that hold back cleanup, the size of the log, the
 * delayed notifications, and the watched tables. Reads only.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_SCHEMA`, `SCHEMA_OLD`, `SCHEMA_NEW`; `NO_PERMISSION`
 * without `hark.grant_consume`, `hark.grant_operate` or `hark.grant_observe`.
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
  knownOptions("status", options, ["maxCount", "warnAfter"]);
  const maxCount = wholeNumber("maxCount", options.maxCount, 100_000, 1);
  const warnAfter = durationMs("warnAfter", options.warnAfter, 7 * aDay, ageBounds);
  await requireSchema(db);
  return await translated(async () =>
    await statusOf(db, await consumerStatuses(db, maxCount), maxCount, warnAfter)
  );
}

/** The status, for consumers that were read already. Does not check the schema's version. */
export async function statusOf(
  db: Queryable,
  consumers: readonly ConsumerStatus[],
  maxCount: number,
  warnAfter: number,
): Promise<Status> {
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
  const before = await timeAgo(db, warnAfter);
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
    schedules: await schedulesStatus(db),
    inboxes: await inboxStatuses(db, maxCount),
    relays: await relayStatuses(db),
    retention: await retentionSettings(db),
    consumers,
    warnings: worthWarning(await holding(db, before), consumers, before),
    watches: await watchStatuses(db),
  };
}

// A live worker with nothing to read stores its position only now and then. It therefore holds back
// notifications of other channels for a while, which needs no attention.
function worthWarning(
  holding: readonly HoldingConsumer[],
  consumers: readonly ConsumerStatus[],
  before: Date,
): HoldingConsumer[] {
  return holding.filter(({ consumer, reasons }) => {
    const one = consumers.find((one) => one.consumer === consumer);
    const oldestUnread = one?.oldestUnread ?? null;
    return reasons.some((reason) => reason !== "behind") ||
      (oldestUnread === null ? one?.unreadCapped === true : oldestUnread < before);
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
