/**
 * Decides when a drain is over.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { Dispatcher } from "../dispatch/dispatcher.ts";
import type { Assignment } from "../lease/assignment.ts";
import type { DrainEnd, Tally } from "../state/context.ts";
import { LeaseWait } from "../lease/lease_wait.ts";
import type { State } from "../state/state.ts";

const logger = getLogger(["hark", "consumer"]);

/** What a run has done, a drain or another. */
export function tallyOf(
  handled: number,
  { failed, dead }: { readonly failed: number; readonly dead: number },
  { left = 0, more = false, end }: Partial<Drain> = {},
): Tally {
  return { handled, failed, dead, left, more, end };
}

/** Checks whether a drain has anything left to do. */
export class Drain {
  readonly #state: State;
  readonly #assignment: Assignment;
  readonly #dispatcher: Dispatcher;
  readonly #leaseWait: LeaseWait;
  #behindAt = -Infinity;
  /** Why it has ended. Undefined if it was stopped. */
  end: DrainEnd | undefined;
  /** How many notifications it had read, or found waiting, that are not handled. */
  left = 0;
  /** Whether another drain may find something to handle at once. */
  more = false;
  /** How many partitions this worker served when it last asked for a share of the others. */
  #asked: number | undefined;

  constructor(state: State, shares: Assignment, dispatcher: Dispatcher) {
    this.#state = state;
    this.#assignment = shares;
    this.#dispatcher = dispatcher;
    this.#leaseWait = new LeaseWait(state.options.identity, true);
  }

  /**
   * Why the drain is over. It is done once all notifications committed when the run started are
   * handled, by this worker or others. Undefined if it goes on.
   */
  async over(session: Queryable): Promise<DrainEnd | undefined> {
    return this.end = await this.#over(session);
  }

  async #over(session: Queryable): Promise<DrainEnd | undefined> {
    const { run, entries: { queue } } = this.#state;
    if (!this.#dispatcher.idle) return undefined;
    const isReady = queue.hasReady || queue.wantsLoading;
    if (this.#dispatcher.begun >= run.limit && isReady) return "limit";
    // Keys that limits hold back are not failed: the drain takes as long as the rate needs.
    if (isReady || queue.isHeldBack || !this.#isThrough()) return undefined;
    return await this.#ofOthers(session);
  }

  /** Whether this worker has nothing left to handle in its partitions. */
  #isThrough(): boolean {
    const { run, options, partitions, readers, entries: { queue } } = this.#state;
    // Failed notifications are retried here if they are due soon. Later retries wait for the next
    // run.
    const soon = run.waits ? options.pollInterval : 0;
    if (queue.nextDue <= performance.now() + soon) return false;
    if (readers.some((r) => !r.fresh || r.inWindow)) return false;
    for (const held of partitions.values()) {
      // In this partition, notifications wait behind one that is retried later. All of them wait
      // for the next run.
      if (held.halted === "blocked" || held.halted === "full") continue;
      // Handled entries need not be stored yet: the worker stores them when the drain is over.
      // Waiting until that is due would make short drains long.
      if (held.halted !== undefined || held.oldest !== undefined) return false;
    }
    return !this.#assignment.last!.replays ||
      this.#state.entries.rows.waiting.size > options.maxWaiting / 4;
  }

  /** Why the drain is over, or not, as far as the partitions of other workers go. */
  async #ofOthers(session: Queryable): Promise<DrainEnd | undefined> {
    const { run, partitions } = this.#state;
    const last = this.#assignment.last!;
    if (partitions.size === last.partitions) return "done";
    if (run.waits && performance.now() < this.#behindAt) return undefined;
    this.#behindAt = performance.now() + 100;
    const others = this.#all.filter((n) => !partitions.has(n));
    if (!await this.#isBehind(session, others)) return "done";
    if (run.waits) {
      await this.#leaseWait.tell(session);
      return undefined;
    }
    // Other workers may have left since: what is free by now is taken.
    if (this.#asked === partitions.size) return "busy";
    this.#asked = partitions.size;
    this.#assignment.hurry();
    this.#state.run.wake.ring();
    return undefined;
  }

  get #all(): number[] {
    return Array.from({ length: this.#assignment.last!.partitions }, (_, n) => n);
  }

  /** Whether the consumer is paused. The drain then ends. */
  endsPaused(): boolean {
    if (!this.#assignment.last!.paused) return false;
    logger.info("{consumer} is paused, so the drain ends", {
      consumer: this.#state.options.identity.consumer,
    });
    this.end = "paused";
    return true;
  }

  /**
   * Looks, once the progress is stored, whether anything is left for another drain.
   *
   * @param published Whether the worker has published something that came due since its mark.
   */
  async lookBack(session: Queryable, published: boolean): Promise<void> {
    // Its time is over. What handlers had in hand is there for another.
    if (this.#state.run.abandon.aborted) {
      this.more = true;
      return;
    }
    // What others serve, or what is paused, is not for another.
    if (this.end === "busy" || this.end === "paused") return;
    // One that is done has read to the end. What came due since may be for any consumer.
    this.more = published || this.end !== "done" && await this.#isBehind(session, this.#all);
  }

  /** Whether something that was committed when the run started is not read in some partitions. */
  async #isBehind(session: Queryable, numbers: readonly number[]): Promise<boolean> {
    const { rows: [row] } = await translated(() =>
      session.query(
        `select hark.is_behind($1::text, $2::text::integer[],
          $3::text::hark.marks) as behind`,
        [
          this.#state.options.identity.consumer,
          `{${numbers.join(",")}}`,
          this.#state.started!.content,
        ],
      )
    );
    return row.behind;
  }
}
