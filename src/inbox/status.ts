/**
 * Which inboxes there are, and how far they are.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";

/** How far an inbox is. */
export interface InboxStatus {
  /** The inbox's id. */
  readonly inbox: string;
  /** Which stream it reads. */
  readonly source: string;
  /** The number of the last message of the stream that it has taken. */
  readonly place: number;
  /** When it last took messages; null if it never did. */
  readonly takenAt: Date | null;
  /** How many dead letters it has; at most `maxCount`. */
  readonly dead: number;
  /** When the oldest of them became one; null if there is none. */
  readonly deadSince: Date | null;
  /** Why the newest of them could not be published; null if there is none. */
  readonly deadReason: string | null;
  /** How many messages the stream had left when the inbox last took some; null if not known. */
  readonly pending: number | null;
  /** What the inbox waits for, such as a server that does not answer; null if for nothing. */
  readonly trouble: string | null;
  /** Since when; null if for nothing. */
  readonly troubleSince: Date | null;
}

/** All inboxes, by name. */
export async function inboxStatuses(db: Queryable, maxCount: number): Promise<InboxStatus[]> {
  const { rows } = await db.query(
    `select inbox, source, place, (extract(epoch from taken_at) * 1000)::float8 as taken_at, dead,
      (extract(epoch from dead_since) * 1000)::float8 as dead_since, dead_reason, pending, trouble,
      (extract(epoch from trouble_since) * 1000)::float8 as trouble_since
    from hark.inbox_status($1::bigint)`,
    [maxCount],
  );
  const date = (ms: unknown) => ms === null ? null : new Date(Number(ms));
  return rows.map((row) => ({
    inbox: row.inbox,
    source: row.source,
    place: Number(row.place),
    takenAt: date(row.taken_at),
    dead: Number(row.dead),
    deadSince: date(row.dead_since),
    deadReason: row.dead_reason,
    pending: row.pending === null ? null : Number(row.pending),
    trouble: row.trouble,
    troubleSince: date(row.trouble_since),
  }));
}

/**
 * Refuses the name of an inbox that does not exist.
 *
 * @throws {HarkError} `NO_CONSUMER`.
 */
export async function requireInbox(db: Queryable, id: string): Promise<void> {
  const all = await translated(() => inboxStatuses(db, 0));
  if (all.some(({ inbox }) => inbox === id)) return;
  throw new HarkError("NO_CONSUMER", `there is no inbox "${id}"`, {
    remedy: all.length === 0
      ? "No inbox has taken messages in this database yet."
      : `There are: ${all.slice(0, 20).map(({ inbox }) => `"${inbox}"`).join(", ")}.`,
  });
}
