/**
 * Waiting on a level, not on an edge.
 *
 * @module
 */

import { longestTimer } from "../duration.ts";

/**
 * A counter that one side rings and the other side waits on. A waiter says which count it has acted
 * on, so that a ring that came while it was busy is not lost.
 */
export class Bell {
  #count = 0;
  /** Each waiter takes itself out. */
  readonly #waiting = new Set<() => void>();
  readonly #also: Bell | undefined;

  /**
   * @param also Another bell that rings whenever this one does.
   */
  constructor(also?: Bell) {
    this.#also = also;
  }

  /** The current count. */
  get count(): number {
    return this.#count;
  }

  /** Wakes all waiters. A waiter that calls `wait` later with an older count returns at once. */
  ring(): void {
    this.#count++;
    for (const wake of this.#waiting) wake();
    this.#also?.ring();
  }

  /**
   * Resolves when the count differs from `seen`, after `timeout` milliseconds (23 days at most), or when `signal`
   * aborts, whichever comes first. The result is true if the bell was rung.
   */
  async wait(seen: number, timeout: number, signal?: AbortSignal): Promise<boolean> {
    if (this.#count !== seen || signal?.aborted) return this.#count !== seen;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    // A timer of more than 2^31 ms would fire at once.
    const timer = setTimeout(wake, Math.min(timeout, longestTimer));
    signal?.addEventListener("abort", wake, { once: true });
    this.#waiting.add(wake);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      this.#waiting.delete(wake);
    }
    return this.#count !== seen;
  }
}

/** Waits for `ms` milliseconds or until `signal` aborts; never rejects. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await new Bell().wait(0, ms, signal);
}

/**
 * The delay before attempt number `attempt` (1, 2, …), in milliseconds. It doubles from `initial`
 * to `maximum`. It is random within the upper half of that value, so that many clients do not
 * return at the same moment.
 */
export function backoff(
  attempt: number,
  initial: number,
  maximum: number,
  random: () => number = Math.random,
): number {
  const full = Math.min(maximum, initial * 2 ** Math.min(attempt - 1, 40));
  return full / 2 + random() * full / 2;
}
