/**
 * The entries that may be handled now, in the order in which they are taken.
 *
 * @module
 */

import type { Entry } from "./entry.ts";
import { Fifo } from "./fifo.ts";

/** Entries that are ready: read, and not behind another one of their lane. */
export interface Ready {
  /** Whether one could be taken now. */
  readonly hasReady: boolean;
  /** How many that were read again could be taken now. */
  readonly loadedCount: number;
  /** When one can be taken that cannot be taken now, by `performance.now()`. */
  readonly nextDue: number;
  /** Adds an entry that was read from the log. */
  add(entry: Entry): void;
  /** Adds an entry that was read again. It comes before entries from the log, which are younger. */
  addLoaded(entry: Entry): void;
  /** Takes back entries that were taken. They come before all others. */
  putBack(entries: readonly Entry[]): void;
  /** Takes the next entry. */
  take(): Entry | undefined;
  /** The handler of an entry that was taken has ended, or is not called. */
  release(entry: Entry): void;
  /** Removes the entries for which `kept` returns false. */
  keep(kept: (entry: Entry) => boolean): void;
  /** Entries were dropped that had been taken. */
  prune(): void;
  /** Time has passed. */
  wake(): void;
  /** Entries that are held back by a limit, and are in memory. */
  heldBack(): readonly Entry[];
}

/** Entries in the order in which they came. */
export class Arrival implements Ready {
  readonly #ready = new Fifo<Entry>();
  readonly #loaded = new Fifo<Entry>();
  readonly nextDue = Infinity;

  get hasReady(): boolean {
    return this.#ready.size > 0 || this.#loaded.size > 0;
  }

  get loadedCount(): number {
    return this.#loaded.size;
  }

  add(entry: Entry): void {
    this.#ready.push(entry);
  }

  addLoaded(entry: Entry): void {
    this.#loaded.push(entry);
  }

  putBack(entries: readonly Entry[]): void {
    this.#loaded.unshift(entries);
  }

  take(): Entry | undefined {
    return this.#loaded.shift() ?? this.#ready.shift();
  }

  keep(kept: (entry: Entry) => boolean): void {
    this.#ready.keep(kept);
    this.#loaded.keep(kept);
  }

  release(): void {}
  prune(): void {}
  wake(): void {}

  heldBack(): readonly Entry[] {
    return [];
  }
}
