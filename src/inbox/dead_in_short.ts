/**
 * The dead letters of an inbox as lists show them, without bodies; and publishing them in a transaction.
 *
 * @module
 */

import type { Queryable, QueryResult } from "../database/queryable.ts";
import { messageOf, translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { type Item, itemOf } from "./map.ts";
import { messageOfParts } from "./message.ts";
import type { InboxMessage } from "./options.ts";
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

/** A dead letter as it was stored. */
export interface Dead {
  readonly number: number;
  readonly message: InboxMessage;
  readonly reason: string;
  /** For how many milliseconds its inbox then remembered ids. */
  readonly dedupe: number | undefined;
}

/** A dead letter of a row of hark.inbox_dead_letters. */
export function deadOf(row: QueryResult["rows"][number]): Dead {
  return {
    number: Number(row.number),
    message: messageOfParts({
      subject: row.subject,
      sequence: Number(row.sequence),
      time: new Date(row.failed_at),
      headers: row.headers,
      body: Uint8Array.from(atob(row.body), (character) => character.charCodeAt(0)),
    }),
    reason: row.reason,
    dedupe: row.within_ms === null ? undefined : Number(row.within_ms),
  };
}

/** What came of a dead letter: another redrive may have published it, or the inbox its message's repeat. */
export type Outcome = "published" | "repeated" | "gone";

/** Publishes what a dead letter became, in the caller's transaction. */
export async function publishDead(
  tx: Queryable,
  inbox: string,
  { number, dedupe }: Dead,
  items: readonly Item[],
): Promise<Outcome> {
  // First, as it locks: another redrive may be about to publish the same message.
  if (!await settle(tx, inbox, number, true)) return "gone";
  const repeated = await publishItems(tx, items, dedupe !== undefined);
  return repeated > 0 && repeated === items.length ? "repeated" : "published";
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

/** What came of dead letters: how many of each, and the last reason. */
export interface Redriven {
  readonly published: number;
  readonly repeated: number;
  readonly left: number;
  readonly reason: string;
}

/** The most messages that one act publishes. */
export const mostAtOnce = 1000;
/** How many are read at once: a body may have some megabytes. */
const page = 20;

/**
 * Publishes one dead letter, or the oldest thousand, in the caller's transaction. Those that fail again
 * stay. Returns how many were published, were repeats, and failed again, with the last reason.
 *
 * @throws {HarkError} `BAD_OPTION` if there is no dead letter of that number.
 */
export async function redriveIn(
  tx: Queryable,
  inbox: string,
  number: number | undefined,
): Promise<Redriven> {
  const count = { published: 0, repeated: 0, gone: 0, left: 0 };
  let reason = "";
  const done = () => count.published + count.repeated + count.left;
  const most = number === undefined ? mostAtOnce : 1;
  for (let after = (number ?? 1) - 1; done() < most;) {
    const batch = Math.min(page, most - done());
    const { rows } = await tx.query(
      "select * from hark.inbox_dead_letters($1::text, $2::bigint, $3::integer)",
      [inbox, after, batch],
    );
    if (number !== undefined && Number(rows[0]?.number) !== number) break;
    for (const row of rows) {
      after = Number(row.number);
      const { outcome, why = reason } = await publishOne(tx, inbox, deadOf(row));
      count[outcome]++;
      reason = why;
    }
    if (number !== undefined || rows.length < batch) break;
  }
  if (number !== undefined && done() === 0) {
    throw new HarkError("BAD_OPTION", `the inbox "${inbox}" has no dead letter ${number}`, {
      remedy: "It was published or discarded before. Load the page again.",
    });
  }
  const { published, repeated, left } = count;
  return { published, repeated, left, reason };
}

/** Publishes a dead letter, or says why it could not. */
async function publishOne(
  tx: Queryable,
  inbox: string,
  dead: Dead,
): Promise<{ readonly outcome: Outcome | "left"; readonly why?: string }> {
  await tx.query("savepoint redrive");
  let done: Awaited<ReturnType<typeof publishOne>>;
  try {
    const items = [itemOf(dead.message, dead.dedupe)];
    done = { outcome: await publishDead(tx, inbox, dead, items) };
  } catch (error) {
    await tx.query("rollback to savepoint redrive");
    if (isRight(error)) throw error;
    done = { outcome: "left", why: messageOf(error) };
  }
  await tx.query("release savepoint redrive");
  return done;
}

/** Whether a right is missing: then no message can be published. */
function isRight(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === "42501" ||
    error instanceof HarkError && error.code === "NO_PERMISSION";
}
