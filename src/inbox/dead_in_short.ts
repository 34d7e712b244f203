/**
 * The dead letters of an inbox as lists show them, without bodies; and publishing them in a transaction.
 *
 * @module
 */

import type { Queryable, QueryResult } from "../database/queryable.ts";
import { messageOf, translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { itemOf } from "./map.ts";
import { messageOfParts } from "./message.ts";
import { publishItems } from "./publish.ts";

/** A dead letter, without headers and body. */
export interface DeadMessageInShort {
  /** What it is told by. */
  readonly number: number;
  /** Its number in the stream. */
  readonly sequence: number;
  readonly subject: string;
  /** The size of the body. */
  readonly bytes: number;
  readonly reason: string;
  readonly failedAt: Date;
}

/** At most `limit` dead letters behind a number, the oldest first. */
export async function deadMessagesInShort(
  db: Queryable,
  inbox: string,
  after: number,
  limit: number,
): Promise<DeadMessageInShort[]> {
  const { rows } = await translated(() =>
    db.query(
      `select number, sequence, subject, bytes, reason, (extract(epoch from failed_at) * 1000)::float8 as failed_at
      from hark.inbox_dead_in_outline($1::text, $2::bigint, $3::integer)`,
      [inbox, after, limit],
    )
  );
  return rows.map((row) => ({
    number: Number(row.number),
    sequence: Number(row.sequence),
    subject: row.subject,
    bytes: Number(row.bytes),
    reason: row.reason,
    failedAt: new Date(Number(row.failed_at)),
  }));
}

/** Takes a dead letter away, to publish it or for good. False if it is gone. */
export async function settle(
  db: Queryable,
  inbox: string,
  number: number,
  isPublished: boolean,
): Promise<boolean> {
  const { rows: [row] } = await db.query(
    "select hark.inbox_settle($1::text, $2::bigint, $3::boolean) as settled",
    [inbox, number, isPublished],
  );
  return row.settled === true;
}

/** The most messages that one act publishes. */
export const mostAtOnce = 1000;
/** How many are read at once: a body may have some megabytes. */
const page = 20;

/**
 * Publishes one dead letter, or the oldest thousand, in the caller's transaction. Those that fail again
 * stay. Returns how many were published and how many were not, with the last reason.
 *
 * @throws {HarkError} `BAD_OPTION` if there is no dead letter of that number.
 */
export async function redriveIn(
  tx: Queryable,
  inbox: string,
  number: number | undefined,
): Promise<{ readonly published: number; readonly left: number; readonly reason: string }> {
  let [published, left, reason] = [0, 0, ""];
  const most = number === undefined ? mostAtOnce : 1;
  for (let after = (number ?? 1) - 1; published + left < most;) {
    const batch = Math.min(page, most - published - left);
    const { rows } = await tx.query(
      "select * from hark.inbox_dead_letters($1::text, $2::bigint, $3::integer)",
      [inbox, after, batch],
    );
    if (number !== undefined && Number(rows[0]?.number) !== number) break;
    for (const row of rows) {
      after = Number(row.number);
      const done = await publishOne(tx, inbox, row);
      if (done === true) published++;
      else if (done !== false) {
        left++;
        reason = done;
      }
    }
    if (number !== undefined || rows.length < batch) break;
  }
  if (number !== undefined && published + left === 0) {
    throw new HarkError("BAD_OPTION", `the inbox "${inbox}" has no dead letter ${number}`, {
      remedy: "It was published or discarded before. Load the page again.",
    });
  }
  return { published, left, reason };
}

/** Publishes a dead letter. Returns why it could not, or false if another redrive has published it. */
async function publishOne(
  tx: Queryable,
  inbox: string,
  row: QueryResult["rows"][number],
): Promise<boolean | string> {
  await tx.query("savepoint redrive");
  let done: boolean | string;
  try {
    const message = messageOfParts({
      subject: row.subject,
      sequence: Number(row.sequence),
      time: new Date(row.failed_at),
      headers: row.headers,
      body: Uint8Array.from(atob(row.body), (character) => character.charCodeAt(0)),
    });
    const items = [itemOf(message, undefined)];
    done = await settle(tx, inbox, Number(row.number), true);
    if (done) await publishItems(tx, items, false);
  } catch (error) {
    await tx.query("rollback to savepoint redrive");
    if (isRight(error)) throw error;
    done = messageOf(error);
  }
  await tx.query("release savepoint redrive");
  return done;
}

/** Whether a right is missing: then no message can be published. */
function isRight(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === "42501" ||
    error instanceof HarkError && error.code === "NO_PERMISSION";
}
