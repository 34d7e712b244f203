/**
 * When a worker sends heartbeats: when they are due, and when something was changed for the consumer.
 *
 * @module
 */

import type { Bell } from "../../database/bell.ts";

/** At most ten heartbeats per this many milliseconds in response to control notifications. */
const rest = 250;

/** The heartbeats of one worker. */
export class Beats {
  readonly #control: Bell;
  #seen = -1;
  #asked = { since: -Infinity, times: 0 };

  /** @param control Rung when something was changed for the consumer. */
  constructor(control: Bell) {
    this.#control = control;
  }

  /**
   * Whether a heartbeat is to be sent now, which the caller then sends.
   *
   * @param due When one is due otherwise.
   */
  next(due: number): "due" | "changed" | undefined {
    const now = performance.now();
    if (now - this.#asked.since >= rest) this.#asked = { since: now, times: 0 };
    const isChanged = this.#control.count !== this.#seen && this.#asked.times < 10;
    if (now < due && !isChanged) return undefined;
    this.#asked.times++;
    this.#seen = this.#control.count;
    return isChanged ? "changed" : "due";
  }

  /** When to answer a change that was not answered at once, by `performance.now()`. */
  get due(): number {
    return this.#control.count === this.#seen ? Infinity : this.#asked.since + rest;
  }
}
