/**
 * How far an inbox is in its stream.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import type { InboxMessage } from "./options.ts";

const logger = getLogger(["hark", "inbox"]);

/** Up to where messages are taken. */
export interface Place {
  /** The number of the last one. */
  readonly sequence: number;
  /** When the stream stored the latest of them, in milliseconds; undefined if not known. */
  readonly time: number | undefined;
}

/** The place of an inbox in a source. A new inbox begins at `start`. */
export async function placeIn(
  db: Queryable,
  inbox: string,
  source: string,
  start: Place,
): Promise<Place> {
  const { rows: [row] } = await translated(() =>
    db.query(
      `select known, (extract(epoch from known_time) * 1000)::float8 as known_time, other
      from hark.inbox_place($1::text, $2::text, $3::bigint, $4::timestamptz)`,
      [inbox, source, start.sequence, timeText(start)],
    )
  );
  if (row.other !== null) {
    logger.warn("{inbox}: read {other} until now, and begins anew with {source}", {
      inbox,
      other: row.other,
      source,
    });
  }
  const time = row.known_time === null ? undefined : Math.round(Number(row.known_time));
  return { sequence: Number(row.known), time };
}

/** The time of a place for SQL. */
export function timeText({ time }: Place): string | null {
  return time === undefined ? null : new Date(time).toISOString();
}

/**
 * Whether a message was taken before. A stream that has lost its last messages gives their numbers to new
 * ones. These were stored later than all that was taken.
 */
export function isTaken({ sequence, time }: InboxMessage, place: Place): boolean {
  return sequence <= place.sequence && !(place.time !== undefined && time.getTime() > place.time);
}

/** The place behind a message. A number that was lost moves it back. */
export function behind({ sequence, time }: InboxMessage, place: Place): Place {
  return { sequence, time: Math.max(place.time ?? -Infinity, time.getTime()) };
}
