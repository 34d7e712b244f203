/**
 * Rates: how many handlers may begin in a time.
 *
 * @module
 */

/** How many starts are allowed, and in how many milliseconds. */
export interface CheckedRate {
  readonly count: number;
  readonly per: number;
}

/**
 * A token bucket. It holds at most `count` tokens, and gains that many evenly in each `per`. So after
 * a pause `count` starts may follow each other at once.
 */
export class Bucket {
  readonly #rate: CheckedRate;
  #tokens: number;
  #at: number;

  constructor(rate: CheckedRate, now: number) {
    this.#rate = rate;
    this.#tokens = rate.count;
    this.#at = now;
  }

  /** In how many milliseconds a token is there. 0 if one is there now. */
  wait(now: number): number {
    const { count, per } = this.#rate;
    this.#tokens = Math.min(count, this.#tokens + (Math.max(0, now - this.#at) / per) * count);
    this.#at = Math.max(this.#at, now);
    // Sums of fractions may be a little less than the whole.
    return this.#tokens > 1 - 1e-6 ? 0 : (1 - this.#tokens) * per / count;
  }

  /** Takes a token. */
  spend(): void {
    this.#tokens--;
  }

  /** Whether the bucket is as a new one. */
  isFull(now: number): boolean {
    this.wait(now);
    return this.#tokens >= this.#rate.count - 1e-6;
  }
}
