/**
 * Tells handlers when it is uncertain whether this worker still serves their partitions.
 *
 * @module
 */

import type { OwnedPartition } from "../state/partition.ts";

/**
 * How long a worker continues without a connection before its handlers are told, in milliseconds.
 */
const patience = 1000;

/** Tracks whether another worker may have taken over this worker's partitions. */
export class OwnershipGuard {
  readonly #partitions: ReadonlyMap<number, OwnedPartition>;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(partitions: ReadonlyMap<number, OwnedPartition>) {
    this.#partitions = partitions;
  }

  /**
   * The connection is lost. If ownership is not certain again after a moment, running handlers' signals abort.
   */
  lost(): void {
    this.#timer ??= setTimeout(() => {
      for (const held of this.#partitions.values()) {
        held.lose(new Error("the connection is lost, and another worker may have taken over"));
      }
    }, patience);
  }

  /** Certainly no other worker has taken over. */
  certain(): void {
    this.forget();
    for (const held of this.#partitions.values()) held.regain(held.epoch);
  }

  /** Cancels the timer, so that no handler is told. */
  forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
