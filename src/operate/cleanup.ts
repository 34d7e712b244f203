/**
 * Removing old notifications.
 *
 * @module
 */

import { bad, knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { days, daysAgo, holding, type HoldingConsumer } from "./holding.ts";

/** Options of {@linkcode cleanup}. */
export interface CleanupOptions {
  /** Remove what was published longer ago than so many days, fractions allowed, or before a time. */
  readonly olderThan: number | Date;
  /** Remove nothing, only count. @default {false} */
  readonly dryRun?: boolean;
  /**
   * Also remove what a consumer has not read: it will never see it. What waits to be tried again or to
   * be replayed stays all the same. @default {false}
   */
  readonly force?: boolean;
  /**
   * First remove the consumers that no worker has served for so many days, fractions allowed, with their
   * positions and dead letters. None unless given.
   */
  readonly dropInactive?: number;
  /**
   * Look at each old notification. Else leaves of the log that are wholly old and passed are emptied, which takes no
   * longer for more; and of what is old in other leaves all goes, one by one, where that is 50,000 at the most: more
   * stays until its leaf goes. @default {false}
   */
  readonly exact?: boolean;
  /** How many notifications one transaction looks at. @default {10000} */
  readonly batch?: number;
  /** Called after each transaction, with the counts so far. */
  readonly onProgress?: (progress: CleanupProgress) => unknown;
  /** Ends it between two transactions when it aborts. */
  readonly signal?: AbortSignal;
}

/** How far a {@linkcode cleanup} is. */
export interface CleanupProgress {
  /** How many notifications were removed, or with `dryRun` would be. By estimate where whole leaves went. */
  readonly removed: number;
  /** How many were looked at that are old enough but were kept, as a consumer has not passed them. */
  readonly kept: number;
  /**
   * The size of the removed ones as stored, in bytes. Where whole leaves went, the disk has that space back, indexes
   * included; elsewhere PostgreSQL reuses it.
   */
  readonly bytes: number;
}

/** A consumer that no worker has served for long. */
export interface DroppedConsumer {
  /** Its name. */
  readonly consumer: string;
  /** When a worker served it last; where none ever did, when it was registered. */
  readonly lastServed: Date;
}

/** What a {@linkcode cleanup} did. */
export interface CleanupResult extends CleanupProgress {
  /** What was published before this was old enough. */
  readonly cutoff: Date;
  /** Whether nothing was removed, only counted. */
  readonly dryRun: boolean;
  /** Whether it came to its end; false where `signal` ended it. */
  readonly complete: boolean;
  /**
   * Whether more than 50,000 old ones were not looked at one by one, as they lie in leaves of the log that are not
   * wholly old, or not passed by everybody; see {@linkcode CleanupOptions.exact}.
   */
  readonly more: boolean;
  /** Because of whom notifications were kept, the furthest behind first. */
  readonly keptFor: readonly HoldingConsumer[];
  /** The consumers that were removed, or with `dryRun` would be, as no worker served them. */
  readonly dropped: readonly DroppedConsumer[];
}

/** So many old notifications are removed one by one, where their leaf is not wholly old. */
const most = 50_000;

/**
 * Removes old notifications that every consumer has passed: whole leaves of the log at once, what else is old a batch a
 * transaction. Not to be called in a transaction of your own, whose locks would stay. What a consumer has
 * not passed is kept, however old, unless `force` is given. An idle consumer stores its position only
 * now and then, so a few notifications of other channels may be kept for it.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_SCHEMA` and so on; `NO_PERMISSION`: only the schema's owner may, and
 * roles with `hark.grant_operate`.
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
    "dropInactive",
    "exact",
    "batch",
    "onProgress",
    "signal",
  ]);
  const { olderThan, dryRun = false, force = false, exact = false } = options;
  const { dropInactive, onProgress, signal } = options;
  const batch = wholeNumber("batch", options.batch, 10_000, 1, 1_000_000);
  checkAge(olderThan);
  if (dropInactive !== undefined) days("dropInactive", dropInactive);
  await requireSchema(db);
  const cutoff = olderThan instanceof Date ? olderThan : await daysAgo(db, olderThan);
  const dropped = dropInactive === undefined ? [] : await drop(db, dropInactive, dryRun);
  const without = dryRun ? dropped.map(({ consumer }) => consumer) : [];

  let [removed, kept, bytes] = [0, 0, 0];
  const before = cutoff.toISOString();
  const emptyLeaves = async () => {
    while (signal?.aborted !== true) {
      const { rows: [leaf] } = await translated(() =>
        db.query(
          "select removed, bytes from hark.empty_leaf($1::text::timestamptz, $2::boolean)",
          [before, force],
        )
      );
      if (leaf === undefined) break;
      removed += Number(leaf.removed);
      bytes += Number(leaf.bytes);
      await onProgress?.({ removed, kept, bytes });
    }
  };
  if (!dryRun) await emptyLeaves();
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
    await emptyLeaves(); // also of which all went one by one
    // Cleaning one by one does that too, a batch at a time.
    if (more) { while (await tidied(db, batch) >= batch); }
    await translated(async () => {
      await db.query("select hark.drop_leaves()");
      await db.query("select hark.extend(true)");
    });
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

async function drop(db: Queryable, inactive: number, dryRun: boolean): Promise<DroppedConsumer[]> {
  return await translated(async () => {
    const { rows } = await db.query(
      `select consumer, (extract(epoch from served_last) * 1000)::float8 as served_last
      from hark.drop_inactive(clock_timestamp() - make_interval(secs => $1::float8 * 86400), $2::boolean)`,
      [inactive, dryRun],
    );
    return rows.map((row) => ({
      consumer: row.consumer,
      lastServed: new Date(Number(row.served_last)),
    }));
  });
}
