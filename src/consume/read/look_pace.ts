/**
 * How often an awake reader looks at the log.
 *
 * @module
 */

import type { Standing } from "../state/context.ts";

/** The shortest time from one look to the next, in milliseconds. */
export const glance = 3;
/** That time after nothing came for `awhile`, in milliseconds. */
const idleGlance = 10;
const awhile = 200;
/**
 * Statements of looks fill this share of the time: a tenth of a core of the server. The reader's process has
 * about as much to do for a look as the server.
 */
const share = 0.1;
/**
 * From this many notifications a millisecond on, the process and the server share that tenth. So looks come half
 * as often. What that saves is then worth more than the milliseconds by which a notification comes later.
 */
const many = 1.5;
/** The longest time from one look to the next, in milliseconds, below and from `many` on. */
const longest = 10;
const longestOfMany = 20;
/**
 * Over which time notifications are counted, in milliseconds. Between two looks there may be a burst, or nothing
 * while the publishers wait for the processor.
 */
const counted = 200;
/** How many looks are recent. */
const recent = 32;

/**
 * What a look takes: the least time among recent ones. A look that waits for the processor, or for a lock, lasts
 * longer and costs no more. By the time of the last look, a reader on a busy machine would wait needlessly.
 */
export class LookTime {
  readonly #times: number[] = [];
  #next = 0;

  /** Notes how long a look took, in milliseconds. */
  note(took: number): void {
    this.#times[this.#next] = took;
    this.#next = (this.#next + 1) % recent;
  }

  /** In milliseconds. 0 before the first look. */
  get least(): number {
    return this.#times.length === 0 ? 0 : Math.min(...this.#times);
  }
}

/** Decides when an awake reader looks again. */
export class LookPace {
  #count = 0;
  #since = -Infinity;
  #isMuch = false;

  /** The time from a look at `now` to the next, in milliseconds. */
  next(
    { found, busyAt, lookTime }: Pick<Standing, "found" | "busyAt" | "lookTime">,
    now: number,
  ): number {
    this.#measure(found, now);
    if (now - busyAt >= awhile) return idleGlance;
    const whole = lookTime / share;
    return this.#isMuch
      ? Math.min(longestOfMany, Math.max(glance, 2 * whole))
      : Math.min(longest, Math.max(glance, whole));
  }

  /** @param found Undefined if it is not known: then they count as few. */
  #measure(found: number | undefined, now: number): void {
    const elapsed = now - this.#since;
    if (elapsed < counted) return;
    const count = found ?? 0;
    // After a longer time, the reader was asleep.
    this.#isMuch = elapsed < 2 * counted && count - this.#count >= many * elapsed;
    this.#count = count;
    this.#since = now;
  }
}
