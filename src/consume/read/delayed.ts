/**
 * Delayed notifications that are due, which readers without a registration move into the log too.
 *
 * @module
 */

import { CommonQuestion } from "../../database/common.ts";
import type { Queryable } from "../../database/queryable.ts";
import { isPassing, translate } from "../../database/translate.ts";

/** How soon a reader asks again, however often it is told of new ones, in milliseconds. */
const shortest = 25;

/** When a reader asks for what is due. */
export class DelayedLook {
  /** When to ask next at the latest, by `performance.now()`, even if other notifications never end. */
  due = 0;
  #nudges = -1;
  #askedAt = -Infinity;

  /**
   * Asks, if it is time to.
   *
   * @param nudges How often the reader was told that there are new ones.
   * @param longest The longest time from one question to the next, in milliseconds.
   */
  async tend(session: Queryable, nudges: number, longest: number): Promise<void> {
    const now = performance.now();
    const next = this.#nudges === nudges ? this.due : this.#askedAt + shortest;
    if (now < Math.min(next, this.due)) {
      this.due = Math.min(next, this.due);
      return;
    }
    this.#nudges = nudges;
    this.#askedAt = now;
    this.due = await deliverDue(session, longest);
  }
}

const delivering = new CommonQuestion(async (session) => {
  const { rows: [row] } = await session.query("select moved, next_ms from hark.deliver_due()");
  return {
    moved: Number(row.moved),
    nextMs: row.next_ms === null ? Infinity : Number(row.next_ms),
  };
});

/**
 * Moves due delayed notifications into the log. Returns when to look for the next one, at most
 * `longest` ms later. Subscriptions with nothing to do look at the same times, so that they ask together.
 */
async function deliverDue(session: Queryable, longest: number): Promise<number> {
  try {
    const { moved, nextMs } = await delivering.ask(session);
    const now = performance.now();
    if (moved > 0) return now;
    // Rounded up: a timer that ends too early would have to be set again.
    if (nextMs < longest) return now + Math.max(0, Math.ceil(nextMs));
    return longest < 1000 ? now + longest : (Math.floor(now / longest) + 1) * longest;
  } catch (error) {
    const reason = translate(error);
    if (!isPassing(reason)) throw reason;
    // If the connection is lost, the next read finds that out and reports it.
    return performance.now() + Math.min(longest, 250);
  }
}
