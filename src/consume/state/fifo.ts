/**
 * Two small queues: ordered by arrival and ordered by time.
 *
 * @module
 */

/** A first-in, first-out queue. Every operation on its ends takes constant time. */
export class Fifo<T> {
  #items: T[] = [];
  #head = 0;

  /** The number of items. */
  get size(): number {
    return this.#items.length - this.#head;
  }

  /** Adds an item at the end. */
  push(item: T): void {
    this.#items.push(item);
  }

  /** Removes and returns the first item. */
  shift(): T | undefined {
    if (this.#head === this.#items.length) return undefined;
    const item = this.#items[this.#head]!;
    this.#items[this.#head++] = undefined as T;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head > 1000 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Returns the first item without removing it. */
  peek(): T | undefined {
    return this.#items[this.#head];
  }

  /** Inserts items at the beginning, in their order. */
  unshift(items: readonly T[]): void {
    this.#items = [...items, ...this.#items.slice(this.#head)];
    this.#head = 0;
  }

  /** Removes the items for which `kept` returns false. */
  keep(kept: (item: T) => boolean): void {
    this.#items = this.#items.slice(this.#head).filter(kept);
    this.#head = 0;
  }

  /** All items, in order. */
  *[Symbol.iterator](): Generator<T> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i]!;
  }
}

/** A queue that returns the earliest item first: a binary heap. */
export class Agenda<T> {
  #items: { readonly at: number; readonly item: T }[] = [];

  /** The number of items. */
  get size(): number {
    return this.#items.length;
  }

  /** The time of the earliest item. Infinity if the queue is empty. */
  get next(): number {
    return this.#items[0]?.at ?? Infinity;
  }

  /** Adds an item for a time. */
  add(at: number, item: T): void {
    const items = this.#items;
    let place = items.push({ at, item }) - 1;
    while (place > 0) {
      const above = (place - 1) >> 1;
      if (items[above]!.at <= at) break;
      [items[above], items[place]] = [items[place]!, items[above]!];
      place = above;
    }
  }

  /** Removes and returns the earliest item, if its time has come. */
  take(now: number): T | undefined {
    const items = this.#items;
    if (items.length === 0 || items[0]!.at > now) return undefined;
    const { item } = items[0]!;
    const last = items.pop()!;
    if (items.length > 0) {
      items[0] = last;
      for (let place = 0;;) {
        let least = place;
        for (const below of [2 * place + 1, 2 * place + 2]) {
          if (below < items.length && items[below]!.at < items[least]!.at) least = below;
        }
        if (least === place) break;
        [items[place], items[least]] = [items[least]!, items[place]!];
        place = least;
      }
    }
    return item;
  }

  /** Removes the items for which `kept` returns false. */
  keep(kept: (item: T) => boolean): void {
    const items = this.#items.filter(({ item }) => kept(item));
    this.#items = [];
    for (const { at, item } of items) this.add(at, item);
  }
}
