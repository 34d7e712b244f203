/**
 * Snapshots: publishing the rows that already exist.
 *
 * @module
 */

import { bad, knownOptions, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";

/** The progress of a snapshot. */
export interface SnapshotProgress {
  /** How many rows the snapshot has published, including earlier calls. */
  readonly published: number;
  /** About how many rows the table has, by the server's statistics; undefined if there are none. */
  readonly estimate: number | undefined;
}

/** Options of a snapshot, see {@linkcode WatchOptions.snapshot}. */
export interface SnapshotOptions {
  /** How many rows one transaction publishes, 1 to 100,000. @default {1000} */
  readonly batchSize?: number;
  /** Start again from the first row, even if the snapshot was finished. @default {false} */
  readonly again?: boolean;
  /** Callback after each transaction that published rows. Its result is awaited. */
  readonly onProgress?: (progress: SnapshotProgress) => unknown;
  /**
   * When it aborts, the snapshot ends after the current transaction. The next call continues it.
   */
  readonly signal?: AbortSignal;
}

/** The result of a snapshot. */
export interface SnapshotResult {
  /** How many rows this call has published. */
  readonly published: number;
  /** How many rows the snapshot has published, including earlier calls. */
  readonly total: number;
  /** Whether all rows are published. False if `signal` ended the snapshot. */
  readonly done: boolean;
}

/** Checks the options; undefined if no snapshot is wanted. */
export function snapshotOptions(value: unknown): SnapshotOptions | undefined {
  if (value === undefined || value === false) return undefined;
  if (value === true) return {};
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    bad("snapshot", value, "Give true, or { batchSize, again, onProgress, signal }.");
  }
  knownOptions("snapshot", value, ["batchSize", "again", "onProgress", "signal"]);
  const { batchSize, again = false, onProgress, signal } = value as SnapshotOptions;
  wholeNumber("batchSize", batchSize, 1000, 1, 100_000);
  if (typeof again !== "boolean") bad("again", again, "Give true or false.");
  if (onProgress !== undefined && typeof onProgress !== "function") {
    bad("onProgress", onProgress, "Give a function.");
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    bad("signal", signal, "Give an AbortSignal.");
  }
  return value;
}

/**
 * Refuses to run inside the caller's transaction. All batches would be one transaction there, and
 * would hold up readers of the log until it ends. Detection: a transaction that has a number still
 * has the same number in the next statement.
 */
export async function requireOwnTransactions(db: Queryable): Promise<void> {
  const { rows: [{ mine }] } = await db.query(
    "select pg_catalog.pg_current_xact_id()::text as mine",
  );
  const { rows: [{ now }] } = await db.query(
    "select pg_catalog.pg_current_xact_id_if_assigned()::text as now",
  );
  if (mine !== now) return;
  throw new HarkError("IN_TRANSACTION", "a snapshot needs a transaction for each batch", {
    remedy: "Call watch() with a database or a pool, not within a transaction.",
  });
}

/** Publishes the rows of a watched table, one transaction for each batch. */
export async function snapshot(
  db: Queryable,
  table: string,
  name: string,
  options: SnapshotOptions,
): Promise<SnapshotResult> {
  const { batchSize = 1000, again = false, onProgress, signal } = options;
  const ask = async (sql: string, ...more: unknown[]) =>
    (await translated(() => db.query(sql, [table, ...more]))).rows[0];
  if (again) await ask("select hark.restart_snapshot($1::text::oid::regclass, $2::text)", name);
  const rows = Number(
    (await ask(
      "select reltuples::float8 as rows from pg_catalog.pg_class where oid = $1::text::oid",
    ))
      ?.rows ?? 0,
  );
  const estimate = rows > 0 ? rows : undefined;
  let [published, total, done] = [0, 0, false];
  while (!done && signal?.aborted !== true) {
    const page = await ask(
      "select published, total, done from hark.snapshot($1::text::oid::regclass, $2::text, $3::integer)",
      name,
      batchSize,
    );
    published += Number(page.published);
    total = Number(page.total);
    done = page.done === true;
    // A batch publishes no rows if another transaction holds a lock on one of them for long. The
    // loop then tries again.
    if (Number(page.published) > 0) await onProgress?.({ published: total, estimate });
  }
  return { published, total, done };
}
