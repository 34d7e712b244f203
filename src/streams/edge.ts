/**
 * The live edge of a set of channels: one reader for all clients that stand there.
 *
 * @module
 */

import { pages } from "../consume/pages.ts";
import type { Mark } from "../consume/state/position.ts";
import { Bell } from "../database/bell.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import type { Item } from "./made.ts";

export type { Item };

const logger = getLogger(["hark", "streams"]);

/** How the edge reads, and how much it keeps. */
export interface EdgeOptions {
  readonly pollInterval: number;
  /** The most bytes that are kept for clients that come a little later. */
  readonly bytes: number;
}

/** How long a client waits for a look at the log, in milliseconds. A look takes a few. */
const patience = 3000;

/** The most steps that are kept. */
const mostItems = 16_384;

/** The most bytes that a client is given at once, unless one notification has more. */
const mostAtOnce = 256 * 1024;

/** What a step takes in memory, about. */
const sizeOf = ({ row }: Item) => 300 + (row?.payload?.length ?? 0) + (row?.headers?.length ?? 0);

/**
 * Reads the edge, and keeps what it read last. Each client has a place in that. A client that falls out
 * of it, because it is slow, costs the others nothing: it reads from the log by itself.
 */
export class Edge {
  readonly #stop = new AbortController();
  readonly #bytesKept: number;
  readonly #items: Item[] = [];
  /** The number of the first step that is kept. They are numbered from 0 on. */
  #first = 0;
  #bytes = 0;
  /** The number of the step behind a position. */
  readonly #behind = new Map<string, number>();
  /** The clients that wait for steps, and until when. A timer for each would cost more than all else. */
  readonly #waiting = new Map<() => void, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Rings when a look is over. */
  readonly #over = new Bell();
  /** Rings to have the log looked at. */
  readonly #look = new Bell();
  /** The count of that before the window was opened that was read last. */
  #looked = -1;
  #mark: Mark | undefined;
  #position = "";
  #settled = false;
  #reason: Error | undefined;
  /** Resolves when it has stopped. */
  readonly done: Promise<void>;

  /** @param channels Null is every channel. */
  constructor(db: Queryable, channels: string[] | null, options: EdgeOptions) {
    this.#bytesKept = options.bytes;
    this.done = this.#run(db, channels, options.pollInterval);
  }

  /** The number that the next step will have. */
  get end(): number {
    return this.#first + this.#items.length;
  }

  /** Where a client is that has taken every step. */
  get position(): string {
    return this.#position;
  }

  /** Whether it has come to the end of the log, as far as it knows. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Why it has stopped. Undefined while it reads. */
  get reason(): Error | undefined {
    return this.#reason;
  }

  /** The number of the step behind a position. Undefined if that is not kept. */
  behind(position: string): number | undefined {
    return this.#behind.get(position);
  }

  /** The steps from a number on. Undefined if they are not kept any more. */
  from(number: number, most: number): readonly Item[] | undefined {
    if (number < this.#first) return undefined;
    const begin = number - this.#first;
    let end = begin;
    for (let bytes = 0; end < this.#items.length && end - begin < most; end++) {
      bytes += sizeOf(this.#items[end]!);
      if (bytes > mostAtOnce && end > begin) break;
    }
    return this.#items.slice(begin, end);
  }

  /**
   * Waits for steps, until about a time by `performance.now()`.
   *
   * @param hold Is given what ends the waiting sooner.
   */
  async wait(until: number, hold: (wake: () => void) => void): Promise<void> {
    if (this.#reason === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.set(resolve, until);
      hold(resolve);
      this.#time(until);
      await promise;
      this.#waiting.delete(resolve);
    }
    if (this.#reason !== undefined) throw this.#reason;
  }

  /** Sets the timer for those whose time comes first, unless it is set. */
  #time(until: number): void {
    const wait = Math.max(0, Math.min(1000, until - performance.now()));
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const now = performance.now();
      let next = Infinity;
      for (const [wake, at] of this.#waiting) {
        if (at <= now) wake();
        else next = Math.min(next, at);
      }
      if (next < Infinity) this.#time(next);
    }, wait);
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.keys()) wake();
    this.#waiting.clear();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Looks at the log. Returns where it is then: all that was committed before the call is a step.
   *
   * @throws {HarkError} `TIMEOUT` if the log cannot be read now.
   */
  async fresh(signal: AbortSignal): Promise<Mark> {
    const until = performance.now() + patience;
    this.#look.ring();
    const { count } = this.#look;
    for (;;) {
      if (this.#reason !== undefined) throw this.#reason;
      signal.throwIfAborted();
      if (this.#looked >= count && this.#mark !== undefined) return this.#mark;
      const left = until - performance.now();
      if (left <= 0) throw new HarkError("TIMEOUT", `the log could not be read in ${patience} ms`);
      await this.#over.wait(this.#over.count, left, signal);
    }
  }

  /** Stops it. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.done;
  }

  async #run(db: Queryable, channels: string[] | null, pollInterval: number): Promise<void> {
    try {
      const reading = pages(db, channels, {
        start: ["now", null, null],
        follow: true,
        pollInterval,
        rows: 500,
        bytes: 1024 * 1024,
        signal: this.#stop.signal,
        bell: this.#look,
        stored: true,
        onGap: ({ through }) => {
          logger.warn("Notifications up to {through} were cleaned before streams read them", {
            through,
          });
          this.#forget();
        },
      });
      for await (const { rows, windowEnd, rung, reader } of reading) {
        const before = this.end;
        for (const row of rows) this.#add({ position: row.place!.after(row.id), row });
        this.#settled = windowEnd;
        if (windowEnd) {
          const position = reader.position!;
          if (position !== this.#position) this.#add({ position, row: undefined });
          this.#mark = reader.mark;
          this.#looked = rung;
        }
        if (this.end > before) this.#wakeAll();
        if (windowEnd) this.#over.ring();
      }
      this.#end(new HarkError("UNREACHABLE", "these streams have been closed"));
    } catch (error) {
      this.#end(error as Error);
    }
  }

  #end(reason: Error): void {
    this.#reason = reason;
    this.#wakeAll();
    this.#over.ring();
  }

  /** Has each client read from its own position: so that each finds what is missing there. */
  #forget(): void {
    // One step more, as clients also stand behind the last one.
    this.#first = this.end + 1;
    this.#items.length = 0;
    this.#bytes = 0;
    this.#behind.clear();
  }

  #add(item: Item): void {
    this.#position = item.position;
    this.#items.push(item);
    this.#bytes += sizeOf(item);
    this.#behind.set(item.position, this.end);
    let gone = 0;
    while (
      this.#items.length - gone > 1 &&
      (this.#bytes > this.#bytesKept || this.#items.length - gone > mostItems)
    ) {
      const first = this.#items[gone++]!;
      this.#bytes -= sizeOf(first);
      if (this.#behind.get(first.position) === this.#first + gone) {
        this.#behind.delete(first.position);
      }
    }
    if (gone === 0) return;
    this.#items.splice(0, gone);
    this.#first += gone;
  }
}
