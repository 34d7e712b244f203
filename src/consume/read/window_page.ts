/**
 * Asks for a page of a window for the partitions of one worker.
 *
 * @module
 */

import { queryPrepared } from "../../database/prepared.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { PageLimits } from "../state/context.ts";
import { type Held, type Identity, numbersText } from "../state/identity.ts";
import type { Mark } from "../state/position.ts";
import { type PackedPage, pageColumns } from "./page.ts";

// Any page may have set hint bits. Its commit would wait for the disk or for a standby, although
// nothing depends on it.
//
// A window that is opened here ends at a private mark, which the same statement makes. So a woken reader
// asks once. (Without offset 0 the mark that is seen would be parsed twice.)
const readSql =
  `select ${pageColumns}, w.bounded, hark.wants_cut(w.target) as wants_cut, w.content as target,
 pg_catalog.set_config('synchronous_commit', 'off', true) as unwaited
from (select $7::text::hark.marks as seen offset 0) p,
lateral hark.window($1::text, $2::uuid, $3::text::integer[], $4::text::bigint[], $5::text::hark.marks, $6::boolean,
 p.seen) w,
lateral hark.page(p.seen, w.target, $8::bigint, $9::bigint, w.channels, $10::integer, $11::bigint,
 $12::integer, $13::text::hark.marks, w.filter, w.partitions,
 case when w.partitions > cardinality($3::text::integer[]) then $3::text::integer[] end, $14::text) g`;

/** A place in a window, or where one begins. */
export interface Place {
  readonly seen: Mark;
  /** Undefined for a window that ends where the log is when the server reads, or where the server says. */
  readonly target: Mark | undefined;
  /** Undefined for a window of which nothing is read. */
  readonly lastId: number | undefined;
  readonly afterId: number;
}

/**
 * Asks for the page at a place.
 *
 * @param started Notifications that this mark sees are replays.
 */
export function askPage(
  session: Queryable,
  identity: Identity,
  started: Mark,
  { seen, target, lastId, afterId }: Place,
  held: Held,
  limits: PageLimits,
): Promise<PackedPage> {
  return translated(() =>
    queryPrepared(session, readSql, [
      identity.consumer,
      identity.owner,
      numbersText(held.map((one) => one.number)),
      numbersText(held.map((one) => one.epoch)),
      target?.content ?? null,
      lastId === undefined,
      seen.content,
      lastId ?? null,
      afterId,
      limits.rows,
      limits.bytes,
      limits.scanned,
      started.content,
      identity.channels[0],
    ])
  );
}
