/**
 * Decides when a drain is over.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { Dispatcher } from "../dispatch/dispatcher.ts";
import type { Assignment } from "../lease/assignment.ts";
import { LeaseWait } from "../lease/lease_wait.ts";
import type { State } from "../state/state.ts";

/** Checks whether a drain has anything left to do. */
export class Drain {
  readonly #state: State;
  readonly #assignment: Assignment;
  readonly #dispatcher: Dispatcher;
  readonly #leaseWait: LeaseWait;
  #behindAt = -Infinity;

  constructor(state: State, shares: Assignment, dispatcher: Dispatcher) {
    this.#state = state;
    this.#assignment = shares;
    this.#dispatcher = dispatcher;
    this.#leaseWait = new LeaseWait(state.options.identity, true);
  }

  /**
   * Whether all notifications committed when the run started are handled, by this worker or others.
   */
  async isOver(session: Queryable): Promise<boolean> {
    const { partitions, readers, started, entries: { queue } } = this.#state;
    if (!this.#dispatcher.idle || queue.hasReady || queue.wantsLoading) return false;
    // It is not failed: the drain takes as long as the rate needs.
    if (queue.isHeldBack) return false;
    // Failed notifications are retried here if they are due soon. Later retries wait for the next
    // run.
    if (queue.nextDue <= performance.now() + this.#state.options.pollInterval) return false;
    if (readers.some((r) => !r.fresh || r.inWindow)) return false;
    for (const held of partitions.values()) {
      // In this partition, notifications wait behind one that is retried later. All of them wait
      // for the next run.
      if (held.halted === "blocked" || held.halted === "full") continue;
      // Handled entries need not be stored yet: the worker stores them when the drain is over.
      // Waiting until that is due would make short drains long.
      if (held.halted !== undefined || held.oldest !== undefined) return false;
    }
    const last = this.#assignment.last!;
    if (
      last.replays && this.#state.entries.rows.waiting.size <= this.#state.options.maxWaiting / 4
    ) {
      return false;
    }
    if (partitions.size === last.partitions) return true;
    if (performance.now() < this.#behindAt) return false;
    this.#behindAt = performance.now() + 100;
    const others = Array.from({ length: last.partitions }, (_, n) => n)
      .filter((n) => !partitions.has(n));
    const { rows: [row] } = await translated(() =>
      session.query(
        `select hark.is_behind($1::text, $2::text::integer[],
          $3::text::hark.marks) as behind`,
        [this.#state.options.identity.consumer, `{${others.join(",")}}`, started!.content],
      )
    );
    if (row.behind) await this.#leaseWait.tell(session);
    return !row.behind;
  }
}
