/**
 * Removing old notifications.
 *
 * @module
 */

import { bad, knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { getLogger } from "../log/logger.ts";
import { messageOf, translate, translated } from "../database/translate.ts";
import { ageBounds, type Duration, durationMs, requiredMs } from "../duration.ts";
import { requireSchema } from "../schema/migrate.ts";
import { observed } from "../observe/seam.ts";
import { holding, type HoldingConsumer, timeAgo } from "./holding.ts";

const logger = getLogger(["hark", "cleanup"]);

/** Options of {@linkcode cleanup}. */
export interface CleanupOptions {
  /**
   * The age from which notifications are removed, such as `"30d"`: a {@linkcode Duration} of 0 to
   * 100,000 days, or a `Date` before which they were published.
   */
  readonly olderThan: Duration | Date;
  /** Count only, and remove nothing. @default {false} */
  readonly dryRun?: boolean;
  /**
   * Also remove notifications that a consumer has not read; that consumer will never see them.
   * Notifications that wait for a retry or for a replay are kept all the same.
   * @default {false}
   */
  readonly force?: boolean;
  /**
   * First remove the consumers that no worker has served for this long, a {@linkcode Duration} of 0
   * to 100,000 days, with their positions and dead letters. Without it no consumer is removed.
   */
  readonly dropInactive?: Duration;
  /**
   * Also check every old notification one by one. Without it, cleanup empties the segments of the
   * log in which every notification is old and every consumer has passed it; the time for that does
   * not grow with their size. Old notifications in other segments are removed one by one if there
   * are at most 50,000 of them. If there are more, they stay until their whole segment can be
   * emptied.
   * @default {false}
   */
  readonly exact?: boolean;
  /** How many notifications one transaction checks, 1 to 1,000,000. @default {10000} */
  readonly batch?: number;
  /** Callback after each transaction, with the counts so far. */
  readonly onProgress?: (progress: CleanupProgress) => unknown;
  /** When it aborts, cleanup ends after the current transaction. */
  readonly signal?: AbortSignal;
}

/** Progress of a {@linkcode cleanup}. */
export interface CleanupProgress {
  /**
   * How many notifications were removed, or with `dryRun` would be. An estimate for emptied
   * segments.
   */
  readonly removed: number;
  /**
   * How many of the checked notifications are old enough but were kept, because a consumer has not
   * passed them.
   */
  readonly kept: number;
  /**
   * The size of the removed notifications as stored, in bytes. The disk space of an emptied segment
   * is freed at once, indexes included. The space of notifications that were removed one by one is
   * reused by PostgreSQL.
   */
  readonly bytes: number;
}

/** A consumer that no worker has served for a long time. */
export interface DroppedConsumer {
  /** The consumer's name. */
  readonly consumer: string;
  /** When a worker last served it. If no worker ever did: when the consumer was registered. */
  readonly lastServed: Date;
}

/** The result of a {@linkcode cleanup}. */
export interface CleanupResult extends CleanupProgress {
  /** The time before which a notification counts as old. */
  readonly cutoff: Date;
  /** Whether notifications were only counted, not removed. */
  readonly dryRun: boolean;
  /** Whether cleanup finished. False if `signal` ended it. */
  readonly complete: boolean;
  /**
   * Whether more than 50,000 old notifications were not checked one by one. Their segments of the
   * log also hold newer notifications, or notifications that a consumer has not passed; see
   * {@linkcode CleanupOptions.exact}.
   */
  readonly more: boolean;
  /** The consumers for which notifications were kept, the furthest behind first. */
  readonly keptFor: readonly HoldingConsumer[];
  /** The consumers that were removed, or with `dryRun` would be, because no worker served them. */
  readonly dropped: readonly DroppedConsumer[];
}

/**
 * How many old notifications are removed one by one at most, if their segments also hold newer
 * ones.
 */
const most = 50_000;

/**
 * Removes old notifications that every consumer has passed. Whole segments of the log are emptied
 * at once; other old notifications are removed in batches, one transaction each. Do not call it
 * inside your own transaction: its locks would be held until that transaction ends.
 *
 * Notifications that a consumer has not passed are kept at any age, unless you set `force`. A
 * consumer with nothing unread keeps none: cleanup moves it on, or asks its worker to store its
 * position.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_SCHEMA` and so on; `NO_PERMISSION` unless the role owns the
 * schema or has `hark.grant_operate`.
 * @example
 * ```ts
 * import { cleanup, connect } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { removed, keptFor } = await cleanup(db, { olderThan: "30d" });
 * console.log(removed, "removed; some kept for", keptFor.map(({ consumer }) => consumer));
 * ```
 */
export async function cleanup(db: Queryable, options: CleanupOptions): Promise<CleanupResult> {
  return await observed("hark.cleanup", db, {}, () => clean(db, options));
}

async function clean(db: Queryable, options: CleanupOptions): Promise<CleanupResult> {
  knownOptions("cleanup", options, [
    "olderThan",
    "dryRun",
    "force",
    "dropInactive",
    "exact",
    "batch",
    "onProgress",
    "signal",
  ], '{ olderThan: "30d" }');
  const { olderThan, dryRun = false, force = false, exact = false } = options;
  const { onProgress, signal } = options;
  const batch = wholeNumber("batch", options.batch, 10_000, 1, 1_000_000);
  const age = ageOf(olderThan);
  const inactive = durationMs("dropInactive", options.dropInactive, undefined, ageBounds);
  await requireSchema(db);
  const cutoff = age instanceof Date ? age : await timeAgo(db, age);
  const dropped = inactive === undefined ? [] : await drop(db, inactive, dryRun);
  const without = dryRun ? dropped.map(({ consumer }) => consumer) : [];

  let [removed, kept, bytes] = [0, 0, 0];
  const before = cutoff.toISOString();
  const emptySegments = async () => {
    while (signal?.aborted !== true) {
      const { rows: [segment] } = await translated(() =>
        db.query(
          "select removed, bytes from hark.empty_segment($1::text::timestamptz, $2::boolean)",
          [before, force],
        )
      );
      if (segment === undefined) break;
      removed += Number(segment.removed);
      bytes += Number(segment.bytes);
      await onProgress?.({ removed, kept, bytes });
    }
  };
  if (!dryRun) await emptySegments();
  const more = !exact && !dryRun && await hasMore(db, before);
  let after: number | null = more ? null : 0;
  while (after !== null && signal?.aborted !== true) {
    const from: number = after;
    const { rows } = await translated(() =>
      db.query(
        `select next_id, removed, kept, bytes from hark.clean(
          $1::text::timestamptz, $2::bigint, $3::integer, $4::boolean, $5::boolean,
          array(select e.name from json_array_elements_text($6::text::json) e (name)))`,
        [before, from, batch, force, dryRun, JSON.stringify(without)],
      )
    );
    removed += Number(rows[0].removed);
    kept += Number(rows[0].kept);
    bytes += Number(rows[0].bytes);
    after = rows[0].next_id === null ? null : toId(rows[0].next_id);
    await onProgress?.({ removed, kept, bytes });
  }
  if (!dryRun && signal?.aborted !== true) {
    await emptySegments(); // again: the loop above may have removed the last rows of a segment
    // hark.clean also removes expired dedupe keys, a batch at a time. If that loop did not run, do
    // it here.
    if (more) { while (await tidied(db, batch) >= batch); }
    await arrange(db, "drop empty segments", "select hark.drop_segments()");
    await arrange(db, "create segments in advance", "select hark.extend(true)");
  }
  const keptFor = kept === 0 && !more ? [] : await holding(db, cutoff);
  return {
    removed,
    kept,
    bytes,
    cutoff,
    dryRun,
    complete: after === null && signal?.aborted !== true,
    more,
    keptFor: keptFor.filter(({ consumer }) => !without.includes(consumer)),
    dropped,
  };
}

/**
 * Arranges the segments of the log. What was removed is removed, whatever happens here. Rows have
 * room in the overflow segment, and the next cleanup tries again.
 */
async function arrange(db: Queryable, what: string, statement: string): Promise<void> {
  try {
    await db.query(statement);
  } catch (error) {
    logger.warn("cleanup removed what it reports, but could not {what} of the log: {reason}", {
      what,
      reason: messageOf(translate(error)),
    });
  }
}

async function tidied(db: Queryable, batch: number): Promise<number> {
  const { rows } = await translated(() =>
    db.query("select hark.tidy($1::integer) as forgotten", [batch])
  );
  return Number(rows[0].forgotten);
}

async function hasMore(db: Queryable, before: string): Promise<boolean> {
  const { rows } = await translated(() =>
    db.query("select hark.has_older($1::text::timestamptz, $2::integer) as more", [before, most])
  );
  return rows[0].more;
}

function ageOf(olderThan: Duration | Date): number | Date {
  if (!(olderThan instanceof Date)) {
    return requiredMs("olderThan", olderThan, ageBounds);
  }
  if (Number.isNaN(olderThan.getTime())) bad("olderThan", olderThan, "Give a valid Date.");
  return olderThan;
}

async function drop(db: Queryable, inactive: number, dryRun: boolean): Promise<DroppedConsumer[]> {
  return await translated(async () => {
    const { rows } = await db.query(
      `select consumer, (extract(epoch from served_last) * 1000)::float8 as served_last
      from hark.drop_inactive(clock_timestamp() - make_interval(secs => $1::float8 / 1000), $2::boolean)`,
      [inactive, dryRun],
    );
    return rows.map((row) => ({
      consumer: row.consumer,
      lastServed: new Date(Number(row.served_last)),
    }));
  });
}
