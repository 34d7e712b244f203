/**
 * What a worker does if it has no room to read more.
 *
 * @module
 */

import type { Dispatcher } from "../dispatch/dispatcher.ts";
import type { Fetcher } from "../read/fetcher.ts";
import type { State } from "../state/state.ts";

/** Handlers slower than this, in milliseconds, no longer keep the worker from reading further. */
const slow = 2000;

/** Room for what is read next. */
export class Room {
  readonly #state: State;
  readonly #dispatcher: Dispatcher;
  readonly #fetcher: Fetcher;

  constructor(state: State, dispatcher: Dispatcher, fetcher: Fetcher) {
    this.#state = state;
    this.#dispatcher = dispatcher;
    this.#fetcher = fetcher;
  }

  /**
   * If all entries that were read are behind slow handlers or held back by limits, those entries
   * become waiting. The position may then pass them, so that more can be read.
   */
  make(): void {
    const { entries } = this.#state;
    if (this.#isPatient) return;
    if (!this.#dispatcher.hasRoom || entries.queue.hasReady || !this.#fetcher.isFull) return;
    const now = performance.now();
    for (const entry of entries.running) {
      if (entry.phase !== "running" || entry.stored || now - entry.startedAt < slow) continue;
      entries.pass(entry, now);
    }
    this.#state.setAside();
  }

  get #isPatient(): boolean {
    return this.#state.options.handling.isWaitedFor;
  }

  /** When the next handler that runs becomes slow, by `performance.now()`. */
  get due(): number {
    if (this.#isPatient) return Infinity;
    const now = performance.now();
    let next = Infinity;
    for (const { startedAt, stored } of this.#state.entries.running) {
      if (!stored && startedAt + slow > now) next = Math.min(next, startedAt + slow);
    }
    return next;
  }
}
