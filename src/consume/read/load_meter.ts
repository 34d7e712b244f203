/**
 * Measures how often publishers notify, to tell whether a reader should stay awake.
 *
 * @module
 */

/**
 * Commits with NOTIFY wait for each other. The load is high at the rate at which these waits would
 * fill this share of the time. The rate is per second, and is kept within these bounds.
 */
const busyShare = 0.4;
const leastRate = 50;
const mostRate = 200;
/** A high load ends below this share of the rate, so that a load around it does not go up and down. */
const calmShare = 0.7;
/**
 * How long a load must last to count as high, and as low again, in milliseconds. Each change has the
 * reader write to rows that all publishers look at. 100,000 changes under one open transaction make
 * a look take a millisecond. So some changes in ten seconds are acceptable, and many in one second
 * are not.
 */
export const riseTime = 400;
export const fallTime = 3000;

/** Tells a high load from a low one by a count that rises, such as that of NOTIFYs heard. */
export class LoadMeter {
  #isHigh = false;
  #since = -Infinity;
  #count: number | undefined;

  /** Whether the load was high when it was last measured. */
  get isHigh(): boolean {
    return this.#isHigh;
  }

  /** Begins to measure anew, from this count on. Until that has lasted, the load is as said here. */
  restart(isHigh: boolean, now: number, count: number | undefined): void {
    this.#isHigh = isHigh;
    this.#since = now;
    this.#count = count;
  }

  /**
   * Measures, once the load has lasted.
   *
   * @param count Undefined if it is not known. A high load then stays high.
   * @param commitTime How long a commit takes, in milliseconds.
   * @returns whether the load is high.
   */
  measure(now: number, count: number | undefined, commitTime: number | undefined): boolean {
    const elapsed = now - this.#since;
    if (elapsed < (this.#isHigh ? fallTime : riseTime)) return this.#isHigh;
    const isHigh = count === undefined || this.#count === undefined
      ? this.#isHigh
      : (count - this.#count) * 1000 / elapsed >= this.#limit(commitTime);
    this.restart(isHigh, now, count);
    return isHigh;
  }

  #limit(commitTime: number | undefined): number {
    const rate = commitTime === undefined ? 0 : busyShare * 1000 / commitTime;
    const limit = Math.min(Math.max(rate, leastRate), mostRate);
    return this.#isHigh ? calmShare * limit : limit;
  }
}
