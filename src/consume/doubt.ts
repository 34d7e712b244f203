/**
 * What handlers are told while it is uncertain who serves their partitions.
 *
 * @module
 */

import type { HeldPartition } from "./held.ts";

/** How long a worker goes on without a connection before its handlers are told, in milliseconds. */
const patience = 1000;

/** Whether another worker may have taken over what this one holds. */
export class Doubt {
  readonly #partitions: ReadonlyMap<number, HeldPartition>;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(partitions: ReadonlyMap<number, HeldPartition>) {
    this.#partitions = partitions;
  }

  /** Until it is certain again that nobody else has taken over, handlers in hand are told so after a moment. */
  begin(): void {
    this.#timer ??= setTimeout(() => {
      for (const held of this.#partitions.values()) {
        held.lose(new Error("the connection is lost, and another worker may have taken over"));
      }
    }, patience);
  }

  /** It is certain that nobody else has. */
  settle(): void {
    this.forget();
    for (const held of this.#partitions.values()) held.regain(held.epoch);
  }

  /** Tells nobody any more. */
  forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
