/**
 * Maintenance that each worker does for all consumers while it runs: the worker delivers delayed
 * notifications, stores waymarks and creates segments of the log. A waymark is a stored point of
 * the log with its time, at which a later reader can begin.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { extendLog } from "../read/extend_log.ts";
import type { State } from "../state/state.ts";

/** The maintenance of one worker. */
export class Maintenance {
  readonly #state: State;
  /** When to look at delayed notifications next, by `performance.now()`. */
  deliverAt = -Infinity;
  #waymark = { at: performance.now(), handled: 0 };

  constructor(state: State) {
    this.#state = state;
  }

  /**
   * Publishes the delayed notifications that are due. Any running worker does this for all
   * consumers.
   */
  async deliverDue(session: Queryable): Promise<void> {
    if (this.deliverAt > performance.now()) return;
    const { rows: [row] } = await translated(() =>
      session.query("select moved, next_ms from hark.deliver_due()")
    );
    const wait = row.next_ms === null ? Infinity : Number(row.next_ms);
    // If this worker sleeps, the NOTIFY of this call would wake it only a moment later.
    if (Number(row.moved) > 0) this.#state.run.bell.ring();
    // If notifications are due and none was moved, another worker is moving them.
    const least = Number(row.moved) === 0 ? 100 : 0;
    this.deliverAt = performance.now() + Math.max(wait, least);
  }

  /** Stores a waymark now and then, while this worker reads. */
  async waymark(session: Queryable): Promise<void> {
    const { handled } = this.#state.entries;
    const now = performance.now();
    if (handled === this.#waymark.handled) return;
    const since = now - this.#waymark.at;
    // A replay passes many notifications a second. All of them lie far behind the last waymark.
    if (since < 1000 || since < 10_000 && handled - this.#waymark.handled < 10_000) return;
    this.#waymark = { at: now, handled };
    await translated(() => session.query("select hark.waymark()"));
    await extendLog(session);
  }
}
