/**
 * How often a reader looks at the log that no publisher wakes.
 *
 * @module
 */

/** The shortest and the longest time between two looks of a reader of all channels, in milliseconds. */
export const leastOfAll = 10;
const longest = 100;
/** Between two looks passes this share of the time since something was found. */
const share = 0.1;

/**
 * When a reader of all channels looks again, in milliseconds from now. Publishers do not wake it: if they did, every
 * publisher would have to look for it (sql/read/wake.sql).
 *
 * @param quiet How long ago something was found, in milliseconds.
 */
export function pace(quiet: number): number {
  return Math.max(leastOfAll, Math.min(longest, quiet * share));
}

/** Without LISTEN, how long after it has found something a reader looks again at first, in milliseconds. */
const soon = 50;

/**
 * When a reader without LISTEN looks again, in milliseconds: soon after it has found something, and later and
 * later if it finds no more, as it waits half as long as it has found nothing.
 *
 * @param quiet How long ago something was found, in milliseconds.
 */
function unheardPace(quiet: number): number {
  return Math.max(soon, quiet / 2);
}

/**
 * How long a reader waits after a look that publishers do not wake, in milliseconds.
 *
 * @param isOfAll Whether it reads all channels.
 * @param isIdle Whether the look found nothing.
 * @param quiet How long ago something was found, in milliseconds.
 * @param awake How long it would wait under load.
 */
export function unwokenPace(
  isOfAll: boolean,
  isIdle: boolean,
  quiet: number,
  awake: number,
): number {
  if (isOfAll) return Math.max(pace(quiet), awake);
  return isIdle ? unheardPace(quiet) : awake;
}
