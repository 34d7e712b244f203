/**
 * Removing old notifications.
 *
 * @module
 */

import { bad, knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";

/** Options of {@linkcode cleanup}. */
export interface CleanupOptions {
  /** Remove what was published longer ago than so many days, fractions allowed, or before a time. */
  readonly olderThan: number | Date;
  /** Remove nothing, only count. @default {false} */
  readonly dryRun?: boolean;
  /** Also remove what a consumer has not read: it will never see it. @default {false} */
  readonly force?: boolean;
  /** How many notifications one transaction looks at. @default {10000} */
  readonly batch?: number;
  /** Called after each transaction, with the counts so far. */
  readonly onProgress?: (progress: CleanupProgress) => unknown;
  /** Ends it between two transactions when it aborts. */
  readonly signal?: AbortSignal;
}

/** How far a {@linkcode cleanup} is. */
export interface CleanupProgress {
  /** How many notifications were removed, or with `dryRun` would be. */
  readonly removed: number;
  /** How many are old enough but were kept, as a consumer has not passed them. */
  readonly kept: number;
  /** The size of the removed ones as stored, in bytes. PostgreSQL reuses the space; it returns none. */
  readonly bytes: number;
}

/** A consumer whose position is behind something that is old enough. */
export interface HoldingConsumer {
  /** Its name. */
  readonly consumer: string;
  /** When the oldest notification that it has not passed was published. */
  readonly oldest: Date;
}

/** What a {@linkcode cleanup} did. */
export interface CleanupResult extends CleanupProgress {
  /** What was published before this was old enough. */
  readonly cutoff: Date;
  /** Whether nothing was removed, only counted. */
  readonly dryRun: boolean;
  /** Whether all was looked at; false where `signal` ended it. */
  readonly complete: boolean;
  /** Because of whom notifications were kept, the furthest behind first. */
  readonly keptFor: readonly HoldingConsumer[];
}

/**
 * Removes old notifications that every consumer has passed, a batch a transaction. What a consumer has
 * not passed is kept, however old, unless `force` is given. An idle consumer stores its position only
 * now and then, so a few notifications of other channels may be kept for it.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_SCHEMA` and so on; `NO_PERMISSION`: only the schema's owner may.
 * @example
 * ```ts
 * import { cleanup, connect } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { removed, keptFor } = await cleanup(db, { olderThan: 30 });
 * console.log(removed, "removed; some kept for", keptFor.map(({ consumer }) => consumer));
 * ```
 */
export async function cleanup(db: Queryable, options: CleanupOptions): Promise<CleanupResult> {
  knownOptions("cleanup", options, [
    "olderThan",
    "dryRun",
    "force",
    "batch",
    "onProgress",
    "signal",
  ]);
  const { olderThan, dryRun = false, force = false, onProgress, signal } = options;
  const batch = wholeNumber("batch", options.batch, 10_000, 1, 1_000_000);
  checkAge(olderThan);
  await requireSchema(db);
  const cutoff = await cutoffOf(db, olderThan);

  let [removed, kept, bytes] = [0, 0, 0];
  let after: number | null = 0;
  while (after !== null && signal?.aborted !== true) {
    const from: number = after;
    const { rows } = await translated(() =>
      db.query(
        `select next_id, removed, kept, bytes from hark.clean(
          $1::text::timestamptz, $2::bigint, $3::integer, $4::boolean, $5::boolean)`,
        [cutoff.toISOString(), from, batch, force, dryRun],
      )
    );
    removed += Number(rows[0].removed);
    kept += Number(rows[0].kept);
    bytes += Number(rows[0].bytes);
    after = rows[0].next_id === null ? null : toId(rows[0].next_id);
    await onProgress?.({ removed, kept, bytes });
  }
  return {
    removed,
    kept,
    bytes,
    cutoff,
    dryRun,
    complete: after === null,
    keptFor: kept === 0 ? [] : await holding(db, cutoff),
  };
}

function checkAge(olderThan: unknown): void {
  if (olderThan instanceof Date) {
    if (Number.isNaN(olderThan.getTime())) bad("olderThan", olderThan, "Give a valid Date.");
  } else if (
    typeof olderThan !== "number" || !Number.isFinite(olderThan) || olderThan < 0 ||
    olderThan > 100_000
  ) {
    bad("olderThan", olderThan, "Give a number of days from 0 to 100000, or a Date.");
  }
}

/** By the server's clock, which also dates the notifications. */
async function cutoffOf(db: Queryable, olderThan: number | Date): Promise<Date> {
  if (olderThan instanceof Date) return olderThan;
  return await translated(async () => {
    const { rows } = await db.query(
      "select (extract(epoch from clock_timestamp()) * 1000)::float8 as now",
    );
    return new Date(Number(rows[0].now) - olderThan * 86_400_000);
  });
}

// A position covers the whole log, so a consumer of one channel also holds what others publish on others
// until it has looked at it. Nothing at or below a position's floor and lows is unread.
const holdingSql =
  `select p.consumer, (extract(epoch from min(l.created_at)) * 1000)::float8 as oldest
from hark.partitions p cross join hark.install i
cross join lateral (select created_at from hark.log
  where id > least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low)))
    and created_at < $1::text::timestamptz
    and not hark.is_consumed(id, xid, p.position, i.rebased_through)
  order by id limit 1) l
group by p.consumer order by oldest, p.consumer`;

async function holding(db: Queryable, cutoff: Date): Promise<HoldingConsumer[]> {
  return await translated(async () => {
    const { rows } = await db.query(holdingSql, [cutoff.toISOString()]);
    return rows.map((row) => ({ consumer: row.consumer, oldest: new Date(Number(row.oldest)) }));
  });
}
