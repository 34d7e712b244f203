/**
 * When a worker sends its next heartbeat.
 *
 * @module
 */

/** How often a worker checks on the other workers, in milliseconds. */
const watchInterval = 500;

/**
 * When the next heartbeat is due, by `performance.now()`. Beats fall on the same times for all workers
 * of a process, so that they are sent together.
 *
 * @param now When the last one was sent.
 * @param alone Whether the worker has no others to watch. Then the answer is asked for as often as the
 *   worker would look at the log: it also says whether there is something new.
 */
export function nextBeat(now: number, alone: boolean, lease: number, pollInterval: number): number {
  const usual = !alone ? watchInterval : pollInterval < 1000 ? Infinity : pollInterval;
  const interval = Math.min(usual, lease / 4);
  return (Math.floor(now / interval) + 1) * interval;
}
