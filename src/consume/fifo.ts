/**
 * Two small queues: by arrival and by time.
 *
 * @module
 */

/** First in, first out, in constant time. */
export class Fifo<T> {
  #items: T[] = [];
  #head = 0;

  /** How many are in it. */
  get size(): number {
    return this.#items.length - this.#head;
  }

  /** Puts one at the end. */
  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes the first. */
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

  /** The first, which stays. */
  peek(): T | undefined {
    return this.#items[this.#head];
  }

  /** Puts some at the beginning, in their order. */
  unshift(items: readonly T[]): void {
    this.#items = [...items, ...this.#items.slice(this.#head)];
    this.#head = 0;
  }

  /** Removes those that are not to be kept. */
  keep(kept: (item: T) => boolean): void {
    this.#items = this.#items.slice(this.#head).filter(kept);
    this.#head = 0;
  }

  /** All of them, in order. */
  *[Symbol.iterator](): Generator<T> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i]!;
  }
}

/** Earliest first: a binary heap. */
export class Agenda<T> {
  #items: { readonly at: number; readonly item: T }[] = [];

  /** How many are in it. */
  get size(): number {
    return this.#items.length;
  }

  /** The time of the earliest; Infinity where it is empty. */
  get next(): number {
    return this.#items[0]?.at ?? Infinity;
  }

  /** Enters one for a time. */
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

  /** Takes the earliest, where its time has come. */
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

  /** Removes those that are not to be kept. */
  keep(kept: (item: T) => boolean): void {
    const items = this.#items.filter(({ item }) => kept(item));
    this.#items = [];
    for (const { at, item } of items) this.add(at, item);
  }
}
