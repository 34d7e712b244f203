/**
 * What a worker does for everybody while it is there: delayed notifications, and waymarks.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Queryable } from "../database/queryable.ts";
import { Session } from "../database/session.ts";
import { isPassing, messageOf, translate, translated } from "../database/translate.ts";
import type { State } from "./state.ts";

const logger = getLogger(["hark", "consumer"]);

/** The errands of one worker. */
export class Errands {
  readonly #state: State;
  /** When delayed notifications are to be looked after, by `performance.now()`. */
  deliverAt = -Infinity;
  #waymark = { at: performance.now(), handled: 0 };

  constructor(state: State) {
    this.#state = state;
  }

  /** Publishes what was to be published later and is due: whoever is there does it for all. */
  async deliverDue(session: Queryable): Promise<void> {
    if (this.deliverAt > performance.now()) return;
    const { rows: [row] } = await translated(() =>
      session.query("select moved, next_ms from hark.deliver_due()")
    );
    const wait = row.next_ms === null ? Infinity : Number(row.next_ms);
    // Its own NOTIFY would come back to it a moment later, where it is asleep.
    if (Number(row.moved) > 0) this.#state.run.bell.ring();
    // Where nothing was moved although some are due, somebody else is at it.
    const least = Number(row.moved) === 0 ? 100 : 0;
    this.deliverAt = performance.now() + Math.max(wait, least);
  }

  /** Waymarks tell later readers where to begin. Made by whoever reads, now and then. */
  async waymark(session: Queryable): Promise<void> {
    const { handled } = this.#state;
    const now = performance.now();
    if (handled === this.#waymark.handled) return;
    const since = now - this.#waymark.at;
    // A replay passes many a second of what is long behind the last waymark.
    if (since < 1000 || since < 10_000 && handled - this.#waymark.handled < 10_000) return;
    this.#waymark = { at: now, handled };
    await translated(() => session.query("select hark.waymark()"));
    await extendLog(session);
  }
}

/**
 * Makes room in the log for what is published next. On a session of one's own: in somebody's transaction its locks
 * would stay. Where it fails, there is room in the rest of the log.
 */
export async function extendLog(session: Queryable): Promise<void> {
  if (!(session instanceof Session)) return;
  try {
    await session.query("select hark.extend()");
  } catch (error) {
    const reason = translate(error);
    if (isPassing(reason)) throw reason;
    logger.warn("No room was made in the log: {reason}", { reason: messageOf(reason) });
  }
}
