/**
 * What a seek or a replay would do.
 *
 * @module
 */

import { channelNames, consumerName, toId } from "../check.ts";
import type { LogPlace } from "../consume/start.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";
import { place } from "./seek.ts";

/** What a seek would do. */
export interface SeekPreview {
  /** How many notifications the consumer would handle again. */
  readonly again: number;
  /** How many notifications that it has not handled it would never see. */
  readonly skipped: number;
  /** How many waiting notifications would become dead letters. */
  readonly givenUp: number;
  /** Whether counting stopped, so that there may be more. */
  readonly capped: boolean;
}

/** What a replay would do. */
export interface ReplayPreview {
  /** How many notifications the consumer would handle again. */
  readonly again: number;
  /** How many come anyway, as the consumer has not handled them. */
  readonly unread: number;
  /** Whether counting stopped, so that there may be more. */
  readonly capped: boolean;
}

interface Range {
  readonly from?: number | Date;
  readonly to?: number | Date;
  readonly channels?: string | readonly string[];
}

/**
 * What {@linkcode seek} would do. It looks at the newest 50,000 notifications on each side of the place.
 *
 * @throws {HarkError} The errors of {@linkcode seek}.
 */
export async function previewSeek(
  db: Queryable,
  consumer: string,
  to: LogPlace | "end",
): Promise<SeekPreview> {
  const name = consumerName(consumer);
  const start = to === "beginning"
    ? 1
    : to === "now" || to === "end"
    ? undefined
    : "id" in to
    ? to.id
    : to.time;
  const again = start === undefined ? undefined : await ranged(db, name, { from: start });
  const before = start === 1
    ? undefined
    : await ranged(db, name, again === undefined ? {} : { to: again.first - 1 });
  return {
    again: again?.passed ?? 0,
    skipped: before?.unread ?? 0,
    givenUp: before?.waiting ?? 0,
    capped: again?.capped === true || before?.capped === true,
  };
}

/** What {@linkcode replay} would do. @throws {HarkError} The errors of {@linkcode replay}. */
export async function previewReplay(
  db: Queryable,
  consumer: string,
  range: Range,
): Promise<ReplayPreview> {
  const { passed, unread, capped } = await ranged(db, consumerName(consumer), range);
  return { again: passed, unread, capped };
}

async function ranged(db: Queryable, consumer: string, { from, to, channels }: Range) {
  const [fromId, fromTime] = from === undefined ? [null, null] : place("from", from);
  // Before the first id there is nothing.
  const [lastId, toTime] = to === undefined ? [null, null] : to === 0 ? [0, null] : place("to", to);
  const [row] = await ask(
    db,
    `select first_id, passed, unread, waiting, capped
    from hark.preview($1::text, $2::bigint, $3::bigint, $4::text::timestamptz,
      $5::text::timestamptz, case when $6::text is not null then
        array(select e.name from json_array_elements_text($6::text::json) e (name)) end)`,
    [
      consumer,
      fromId,
      lastId,
      fromTime,
      toTime,
      channels === undefined ? null : JSON.stringify(channelNames(channels)),
    ],
  );
  return {
    first: toId(row.first_id),
    passed: Number(row.passed),
    unread: Number(row.unread),
    waiting: Number(row.waiting),
    capped: row.capped === true,
  };
}
