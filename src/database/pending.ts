/**
 * What is under way on a pool when it closes.
 *
 * @module
 */

import { getLogger } from "../log/logger.ts";
import { Bell, pause } from "./bell.ts";

const logger = getLogger(["hark", "database"]);

/** How long closing waits for statements that nothing awaits, in ms. */
const patience = 5000;

/** The statements and transactions on a pool that have not ended. */
export class Pending {
  #count = 0;
  readonly #none = new Bell();

  /** Runs work that {@linkcode Pending.ended} waits for. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    this.#count++;
    try {
      return await work();
    } finally {
      if (--this.#count === 0) this.#none.ring();
    }
  }

  /**
   * Waits for statements and transactions that nothing awaits, such as a `notify` at the end of a
   * program: closing the pool would drop them. Warns of those that do not end.
   */
  async ended(): Promise<void> {
    const end = performance.now() + patience;
    for (;;) {
      const seen = this.#none.count;
      await pause(0); // one that has just ended may begin another
      if (this.#count === 0) return;
      const left = end - performance.now();
      if (left <= 0) break;
      await this.#none.wait(seen, left);
    }
    logger.warn(
      "a database is closed although statements or transactions still run on it, {count} in all, after waiting " +
        "{wait} ms. What they write may be lost. Await them before the end",
      { count: this.#count, wait: patience },
    );
  }
}
