/**
 * Has a worker without work fall asleep (`idle: "sleep"`).
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import type { Dispatcher } from "../dispatch/dispatcher.ts";
import type { Assignment } from "../lease/assignment.ts";
import type { Membership } from "../lease/membership.ts";
import type { Fetcher } from "../read/fetcher.ts";
import type { State } from "../state/state.ts";
import type { Guard } from "./guard.ts";

/** The longest sleep, in milliseconds: a NOTIFY that was lost delays no longer than this. */
const longest = 86_400_000;
/** What is due sooner than this, in milliseconds, keeps the worker awake, if `idleAfter` is longer. */
const soon = 60_000;
/** After a refusal, the longest time until the next try, in milliseconds. */
const patience = 5000;

/** A sleep that has begun. */
export interface Sleep {
  /** The count of the bell `wake` that the worker has acted on. */
  readonly seen: number;
  /** When it ends at the latest, in milliseconds from now. */
  readonly wakesIn: number;
}

/** Decides when a worker sleeps. */
export class Slumber {
  readonly #state: State;
  readonly #dispatcher: Dispatcher;
  readonly #fetcher: Fetcher;
  readonly #assignment: Assignment;
  readonly #membership: Membership;
  readonly #guard: Guard;
  /** Since when there was nothing to do, by `performance.now()`. */
  #idleSince = performance.now();
  #handled = 0;
  #notBefore = -Infinity;

  constructor(
    state: State,
    dispatcher: Dispatcher,
    fetcher: Fetcher,
    assignment: Assignment,
    membership: Membership,
    guard: Guard,
  ) {
    this.#state = state;
    this.#dispatcher = dispatcher;
    this.#fetcher = fetcher;
    this.#assignment = assignment;
    this.#membership = membership;
    this.#guard = guard;
  }

  /** When to try to fall asleep, by `performance.now()`. Infinity while there is something to do. */
  get due(): number {
    if (!this.#isIdle()) return Infinity;
    const idleSince = Math.max(this.#idleSince, this.#fetcher.standing(true).busyAt);
    return Math.max(idleSince + this.#state.options.idleAfter, this.#notBefore);
  }

  /** The worker is awake again. */
  awoke(): void {
    this.#idleSince = performance.now();
    this.#notBefore = -Infinity;
  }

  /**
   * Falls asleep if it is time: gives all partitions back, and leaves the consumer's workers. Undefined if
   * the worker goes on.
   *
   * @param seen The count of the bell `wake` that the worker has acted on. A later ring ends the sleep.
   */
  async begin(session: Queryable, seen: number): Promise<Sleep | undefined> {
    this.#note();
    if (performance.now() < this.due) return undefined;
    const { run, options, partitions } = this.#state;
    this.#notBefore = performance.now() + Math.min(options.idleAfter, patience);
    await this.#guard.acknowledge(session, true);
    if (run.wake.count !== seen || !this.#isIdle()) return undefined;
    // First: publishers that commit from now on wake the worker.
    if (this.#reads && run.waking?.isArmed && !await run.waking.lieDown(session)) return undefined;
    const held = [...partitions.values()];
    const wakesIn = await this.#membership.fallAsleep(session, held, {
      least: this.#least,
      most: longest,
    });
    if (wakesIn === undefined) {
      run.waking?.rise();
      return undefined;
    }
    for (const one of held) this.#state.forget(one, new Error("the consumer sleeps"));
    return { seen, wakesIn };
  }

  /** Notes when there is something to do. */
  #note(): void {
    const { handled } = this.#state.entries;
    if (handled === this.#handled && this.#dispatcher.idle) return;
    this.#handled = handled;
    this.#idleSince = performance.now();
  }

  get #least(): number {
    return Math.min(this.#state.options.idleAfter, soon);
  }

  /** Whether the worker reads anything, so that publishers have to wake it. */
  get #reads(): boolean {
    return this.#assignment.last?.paused !== true && this.#state.readers.length > 0;
  }

  #isIdle(): boolean {
    const { options, run, partitions, outstanding, entries } = this.#state;
    const { queue, unacknowledged } = entries;
    const last = this.#assignment.last;
    if (options.idle !== "sleep" || run.drain || run.stopping.aborted) return false;
    if (last?.outcome !== "serve" || last.replays || last.turning || last.releasing) return false;
    if (!this.#dispatcher.idle || outstanding > 0 || unacknowledged > 0) return false;
    if (queue.hasReady || queue.wantsLoading || queue.isHeldBack) return false;
    if (queue.nextDue <= performance.now() + this.#least) return false;
    if (last.paused) return true;
    // A worker that stands by has to take over if the one that serves ends.
    if (partitions.size === 0) return false;
    for (const { halted } of partitions.values()) {
      if (halted !== undefined && halted !== "blocked") return false;
    }
    if (!this.#reads) return true;
    return run.waking?.isArmed ??
      (run.listener === undefined && this.#fetcher.standing(true).drained);
  }
}
