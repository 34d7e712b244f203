/**
 * Partitions whose owner has lost its session, and how long ago.
 *
 * @module
 */

/** How long an owner whose session has ended may at least take to come back, in milliseconds. */
const grace = 1000;

/**
 * How many answers' time it may take besides. The owner needs a connection and a heartbeat, and where an
 * answer takes long for this worker, it does for the owner.
 */
const answers = 20;

/** How long that is at most, in milliseconds. */
const most = 4000;

/** How often to look whether the owner is back, in milliseconds. */
const interval = 250;

/** The partitions of workers that seem to have gone. */
export class Gone {
  /** When each partition was first seen without its owner's session. */
  readonly #since = new Map<number, number>();
  /** How long the slowest answer took since then, in milliseconds. */
  #slowest = 0;
  /** When to look at them again, by `performance.now()`. */
  due = Infinity;

  /**
   * Takes from a heartbeat which they are. Returns those whose owner has had its time to come back.
   *
   * @param took How long the answer took, in milliseconds.
   * @param now When it came, by `performance.now()`.
   */
  note(gone: readonly number[], took: number, now: number): number[] {
    this.#slowest = gone.length === 0 ? 0 : Math.max(this.#slowest, took);
    const time = grace + Math.min(answers * this.#slowest, most);
    for (const number of this.#since.keys()) if (!gone.includes(number)) this.#since.delete(number);
    for (const number of gone) if (!this.#since.has(number)) this.#since.set(number, now);
    const ends = [...this.#since.values()].map((since) => since + time).filter((end) => end > now);
    this.due = gone.length === 0 ? Infinity : Math.min(now + interval, ...ends);
    return gone.filter((number) => now - this.#since.get(number)! >= time);
  }
}
