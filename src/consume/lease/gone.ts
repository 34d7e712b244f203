/**
 * Partitions whose owner has lost its session, and how long ago.
 *
 * @module
 */

/** How long an owner whose session has ended may take to come back, in milliseconds. */
const grace = 1000;

/** The partitions of workers that seem to have gone. */
export class Gone {
  /** When each partition was first seen without its owner's session. */
  readonly #since = new Map<number, number>();

  /** Takes from a heartbeat which they are. Returns those whose owner has had its time to come back. */
  note(gone: readonly number[]): number[] {
    const now = performance.now();
    for (const number of this.#since.keys()) if (!gone.includes(number)) this.#since.delete(number);
    for (const number of gone) if (!this.#since.has(number)) this.#since.set(number, now);
    return gone.filter((number) => now - this.#since.get(number)! >= grace);
  }
}
