/**
 * What readers without a registration do for the log now and then.
 *
 * @module
 */

import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { extendLog } from "./extend_log.ts";
import { thinMarks } from "./thin_marks.ts";

const interval = 60_000;

/** When readers last made room in the log, by what their connections are. */
const extendedAt = new WeakMap<object, number>();

/** The upkeep of one reader: it removes marks and makes room for rows. */
export class Upkeep {
  #at = performance.now() + interval;

  /** Does what is due. */
  async tend(session: Queryable): Promise<void> {
    if (performance.now() < this.#at) return;
    this.#at = performance.now() + interval;
    await thinMarks(session);
    // Of subscriptions that share their connections, one makes room for all.
    const shared = ownConnection(session)?.shared ?? this;
    const since = performance.now() - (extendedAt.get(shared) ?? -Infinity);
    if (since < interval) return;
    extendedAt.set(shared, performance.now());
    await extendLog(session);
  }
}
