/**
 * Deleting notifications by hand, and the record of it.
 *
 * @module
 */

import { bad, channelName, knownOptions, text, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { ask } from "../schema/ask.ts";
import { requireSchema } from "../schema/migrate.ts";
import { type LogFilter, logFilter } from "./notifications.ts";
import { date, ms } from "./times.ts";

/** Which notifications to delete: those that match every given field, of which there is at least one. */
export interface DeletionChoice extends Omit<LogFilter, "channels"> {
  /** Those of this channel. */
  readonly channel?: string;
}

/** Options of {@linkcode deleteNotifications}. */
export interface DeletionOptions {
  /** Why they are deleted, in 1 to 1,000 characters: it is kept. Leave out names of persons. */
  readonly reason: string;
  /** Called after each batch, with what was deleted so far. */
  readonly onProgress?: (deleted: DeletionResult) => void;
}

/** How many notifications a deletion has removed, by where they were. */
export interface DeletionResult {
  /** The number of the record, as {@linkcode deletions} lists it. */
  readonly deletion: number;
  /** From the log. */
  readonly log: number;
  /** That waited for a retry or a replay, counted for each consumer. */
  readonly waiting: number;
  /** Dead letters, counted for each consumer. */
  readonly dead: number;
  /** That were not due yet. */
  readonly delayed: number;
}

/** The record of a deletion. */
export interface Deletion extends DeletionResult {
  /** The role that deleted. */
  readonly role: string;
  /** The role that had logged in. */
  readonly login: string;
  /** Why. */
  readonly reason: string;
  /** The channel that the deletion was limited to; null if it was not. */
  readonly channel: string | null;
  /** By what they were chosen, such as `["channel", "key"]`, without the values. */
  readonly choice: readonly string[];
  /** When it began. */
  readonly begunAt: Date;
  /** When it ended; null if it was interrupted, or still runs. */
  readonly finishedAt: Date | null;
}

/**
 * Deletes notifications for good, read or not: from the log, with what waits for a retry, dead
 * letters, and delayed notifications. For what should not have been published, and to erase one
 * customer's data. Give ids, or a filter; delayed notifications have no id, and only a filter without
 * ids chooses them. A record of the role, the time, the reason and the counts stays: {@linkcode deletions}.
 *
 * It looks through the whole log unless a range is given, 20,000 notifications at a time. If `db` is
 * a database or a pool, each batch commits by itself, so an error leaves what was deleted deleted.
 * What is published after it began stays, and so does what a transaction has delayed that was open
 * then. It waits up to 10 s for transactions that may have published before and are still open. A worker
 * still handles what it has read already; if that fails, a dead letter of its id remains. Keys of `dedupe`
 * stay until they expire.
 *
 * @throws {HarkError} `CONFLICT` if such a transaction stays open: all else is deleted, and the
 * record has no end. `BAD_OPTION`, also without a choice or a reason; `NO_PERMISSION` without
 * `hark.grant_operate`; `IN_TRANSACTION` in one that is not READ COMMITTED; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, deleteNotifications } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await deleteNotifications(db, { key: "customer-42" }, { reason: "erasure, ticket 1234" });
 * await deleteNotifications(db, [7, 8], { reason: "published by mistake" });
 * ```
 */
export async function deleteNotifications(
  db: Queryable,
  which: readonly number[] | DeletionChoice,
  options: DeletionOptions,
): Promise<DeletionResult> {
  knownOptions("deleteNotifications", options, ["reason", "onProgress"], '{ reason: "ticket 17" }');
  const { reason, onProgress } = options;
  if (typeof reason !== "string" || [...reason].length < 1 || [...reason].length > 1000) {
    bad("reason", reason, "Say why, in 1 to 1,000 characters.");
  }
  text("reason", reason, "BAD_OPTION");
  if (onProgress !== undefined && typeof onProgress !== "function") {
    bad("onProgress", onProgress, "Give a function.");
  }
  const batches = Array.isArray(which) ? idBatches(which) : [chosen(which as DeletionChoice)];
  await requireSchema(db);
  let total: DeletionResult = { deletion: 0, log: 0, waiting: 0, dead: 0, delayed: 0 };
  for (const values of batches) {
    let deletion: number | null = null;
    let next: number | null = null;
    let waited = 0;
    do {
      const { rows: [row] } = await translated(() =>
        db.query(
          `select * from hark.delete_notifications($1::text, $2::text::bigint[], $3::text, $4::text,
            $5::text::jsonb, $6::text, $7::bigint, $8::bigint, $9::text::timestamptz,
            $10::text::timestamptz, continued => $11::bigint, at_id => $12::bigint)`,
          [reason, ...values, deletion, next],
        )
      );
      deletion = toId(row.deletion);
      next = row.next_id === null ? null : toId(row.next_id);
      total = {
        deletion,
        log: total.log + Number(row.log),
        waiting: total.waiting + Number(row.waiting),
        dead: total.dead + Number(row.dead),
        delayed: total.delayed + Number(row.delayed),
      };
      onProgress?.(total);
      const open = Number(row.open);
      if (open > 0) {
        if (waited >= patience) throw unfinished(total.deletion, open);
        const wait = Math.min(100 + waited, 1000);
        await new Promise((resolve) => setTimeout(resolve, wait));
        waited += wait;
      }
    } while (next !== null);
  }
  return total;
}

/** How long a deletion waits for transactions that may have published before it began, in milliseconds. */
const patience = 10_000;

function unfinished(deletion: number, open: number): HarkError {
  const one = open === 1;
  return new HarkError(
    "CONFLICT",
    `deletion ${deletion} is not finished: ${open} transaction${
      one ? "" : "s"
    } that may have published before ` +
      `it began ${one ? "is" : "are"} still open, and may commit what it has not seen`,
    {
      remedy: `Delete again when ${
        one ? "it has" : "they have"
      } ended: see pg_stat_activity and pg_prepared_xacts.`,
    },
  );
}

/** The most ids that one record stands for. */
const mostIds = 10_000;

function idBatches(ids: readonly number[]): unknown[][] {
  if (ids.length === 0) bad("which", ids, "Give at least one id.");
  ids.forEach((id) => wholeNumber("which", id ?? NaN, 1, 1));
  const batches: unknown[][] = [];
  for (let i = 0; i < ids.length; i += mostIds) {
    const some = ids.slice(i, i + mostIds);
    batches.push([`{${some.join(",")}}`, null, null, null, null, null, null, null, null]);
  }
  return batches;
}

function chosen(which: DeletionChoice): unknown[] {
  const known = ["channel", "key", "contains", "search", "from", "to"];
  knownOptions("which", which, known, '{ channel: "orders" }, or an array of ids');
  const { channel, ...rest } = which;
  const filter = logFilter(rest);
  const values = [
    channel === undefined ? null : channelName(channel),
    filter.key,
    filter.contains,
    filter.search,
    filter.fromId,
    filter.toId,
    filter.fromTime,
    filter.toTime,
  ];
  if (values.every((value) => value === null)) {
    throw new HarkError("BAD_OPTION", "deleteNotifications was called without a choice", {
      remedy: `Give ids, or at least one of ${known.join(", ")}.`,
    });
  }
  return [null, ...values];
}

/** Options of {@linkcode deletions}. */
export interface DeletionsOptions {
  /** The maximum number to return, 1 to 10,000. @default {100} */
  readonly limit?: number;
  /** Only those with a lower number than this, to read the next page. */
  readonly before?: number;
}

/**
 * Lists what was deleted with {@linkcode deleteNotifications}: by which role, when and why. The newest
 * first.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, deletions } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { role, begunAt, reason, log } of await deletions(db)) {
 *   console.log(role, begunAt, reason, log);
 * }
 * ```
 */
export async function deletions(
  db: Queryable,
  options: DeletionsOptions = {},
): Promise<Deletion[]> {
  knownOptions("deletions", options, ["limit", "before"]);
  const limit = wholeNumber("limit", options.limit, 100, 1, 10_000);
  const before = options.before === undefined ? null : wholeNumber("before", options.before, 1, 1);
  const rows = await ask(
    db,
    `select number, role, login, reason, channel, array_to_json(choice)::text as choice,
      ${ms("begun_at")}, ${ms("finished_at")}, log, waiting, dead, delayed
    from hark.deletions($1::integer, $2::bigint)`,
    [limit, before],
  );
  return rows.map((row) => ({
    deletion: toId(row.number),
    role: row.role,
    login: row.login,
    reason: row.reason,
    channel: row.channel,
    choice: JSON.parse(row.choice),
    begunAt: date(row.begun_at)!,
    finishedAt: date(row.finished_at),
    log: Number(row.log),
    waiting: Number(row.waiting),
    dead: Number(row.dead),
    delayed: Number(row.delayed),
  }));
}
