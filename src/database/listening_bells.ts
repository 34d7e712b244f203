/**
 * The bells that a LISTEN connection rings.
 *
 * @module
 */

import { Bell } from "./bell.ts";

/** The bells of all readers of a process. */
export class ListeningBells {
  readonly #bells = new Map<Bell, ReadonlySet<string> | null>();
  readonly #controls = new Map<Bell, string>();
  /** The bells of readers that sleep. */
  readonly #resting = new Set<Bell>();
  /** Rung when a reader comes, goes, falls asleep or wakes. */
  readonly change = new Bell();

  /**
   * Rings `bell` whenever a notification is published on one of `channels` (null: on any). Returns
   * a function that detaches it.
   */
  attach(bell: Bell, channels: readonly string[] | null): () => void {
    this.#bells.set(bell, channels === null ? null : new Set(channels));
    this.change.ring();
    return () => {
      this.#bells.delete(bell);
      this.#resting.delete(bell);
      this.change.ring();
    };
  }

  /**
   * Rings `bell` whenever a change concerns the workers of a consumer. Returns a function that
   * detaches it.
   */
  attachControl(bell: Bell, consumer: string): () => void {
    this.#controls.set(bell, consumer);
    return () => void this.#controls.delete(bell);
  }

  /**
   * The reader of an attached bell sleeps. While all of them do, the LISTEN session sends no heartbeat:
   * the server may be suspended. Returns a function that says that the reader has woken.
   */
  rest(bell: Bell): () => void {
    this.#resting.add(bell);
    this.change.ring();
    return () => {
      this.#resting.delete(bell);
      this.change.ring();
    };
  }

  /** Whether all readers sleep. */
  get isQuiet(): boolean {
    return this.#resting.size > 0 && this.#resting.size === this.#bells.size;
  }

  /** Something was published on a channel. */
  published(channel: string): void {
    for (const [bell, channels] of this.#bells) {
      if (channels === null || channels.has(channel)) bell.ring();
    }
  }

  /** Something was changed for a consumer, or for all if the name is empty. */
  changed(consumer: string): void {
    for (const [bell, of] of this.#controls) {
      if (consumer === "" || consumer === of) bell.ring();
    }
  }

  /** Rings all, as notifications may have been missed. */
  ringAll(): void {
    for (const bell of this.#bells.keys()) bell.ring();
    for (const bell of this.#controls.keys()) bell.ring();
  }
}
