/**
 * Looks into the target of a relay. Each is for all partitions that ask until it begins.
 *
 * @module
 */

import { messageId } from "./message.ts";
import type { PlaceStore } from "./place_store.ts";
import type { OpenSink } from "./sink.ts";

/** What a look has found. */
export interface Found {
  /** When it began, or earlier, by `performance.now()`. */
  readonly begunAt: number;
  /** The last place that it has looked at. */
  readonly end: number;
  /** Whether it has found the message of a notification. */
  has(id: number): boolean;
  /** The notifications of a partition that have a message there and are not stored as handled. */
  unhandled(partition: number): Promise<readonly number[]>;
}

/**
 * Looks into the target, one after the other. A takeover has to be quicker than a lease, also if the machine
 * is slow: otherwise workers take the partitions from each other, and none gets to publish.
 */
export class Looks {
  readonly #sink: OpenSink;
  readonly #store: PlaceStore;
  /** The next look. It begins at the lowest place that it is asked for. */
  #next: { from: number; readonly found: Promise<Found> } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** Partitions that are about to ask for a look. */
  readonly #announced = new Set<Promise<unknown>>();

  constructor(sink: OpenSink, store: PlaceStore) {
    this.#sink = sink;
    this.#store = store;
  }

  /** Lets the next look wait until it is known from where on a partition asks for it. */
  async announced<T>(asking: Promise<T>): Promise<T> {
    this.#announced.add(asking);
    try {
      return await asking;
    } finally {
      this.#announced.delete(asking);
    }
  }

  /** Looks through the target behind a place. The look begins after the call. */
  async behind(place: number): Promise<Found> {
    if (this.#next !== undefined) {
      this.#next.from = Math.min(this.#next.from, place);
      return await this.#next.found;
    }
    const before = this.#last;
    const begin = async () => {
      await before;
      while (this.#announced.size > 0) await Promise.allSettled(this.#announced);
      const { from } = this.#next!;
      this.#next = undefined; // what asks from now on needs the next look
      return await this.#look(from);
    };
    const found = Promise.resolve().then(begin);
    this.#next = { from: place, found };
    this.#last = found.catch(() => {}); // each caller hears of it
    return await found;
  }

  async #look(from: number): Promise<Found> {
    const { install } = this.#store;
    const begunAt = performance.now();
    const { ids, end } = await this.#sink.publishedBehind(from);
    let asked: Promise<ReadonlyMap<number, readonly number[]>> | undefined;
    return {
      begunAt,
      end,
      has: (id) => ids.has(messageId(install, id)),
      unhandled: async (partition) => {
        asked ??= this.#store.unhandled(numbersOf(ids, install));
        return (await asked).get(partition) ?? [];
      },
    };
  }
}

/** The numbers of the notifications of an install. */
function numbersOf(ids: ReadonlySet<string>, install: string): number[] {
  const prefix = messageId(install, "");
  return [...ids].flatMap((id) => id.startsWith(prefix) ? [Number(id.slice(prefix.length))] : []);
}
