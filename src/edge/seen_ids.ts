/**
 * The ids of requests that were accepted.
 *
 * @module
 */

/** How many ids are remembered at most. */
const most = 10_000;

/** Remembers ids for a time. */
export class SeenIds {
  readonly #lasting: number;
  /** When each was seen, by `performance.now()`, the oldest first. */
  readonly #at = new Map<string, number>();

  /** @param lasting For how long, in milliseconds. */
  constructor(lasting: number) {
    this.#lasting = lasting;
  }

  /** Remembers an id. Returns false if it is known. */
  add(id: string): boolean {
    const now = performance.now();
    for (const [old, at] of this.#at) {
      if (now - at < this.#lasting && this.#at.size < most) break;
      this.#at.delete(old);
    }
    if (this.#at.has(id)) return false;
    this.#at.set(id, now);
    return true;
  }

  /** Forgets an id. */
  remove(id: string): void {
    this.#at.delete(id);
  }
}
