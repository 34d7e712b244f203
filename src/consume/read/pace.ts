/**
 * How often a reader looks at the log that no publisher wakes.
 *
 * @module
 */

/** The shortest and the longest time between two looks, in milliseconds. */
const shortest = 10;
const longest = 100;
/** Between two looks passes this share of the time since something was found. */
const share = 0.1;

/**
 * When a reader of all channels looks again, in milliseconds from now. Publishers do not wake it: if they did, every
 * publisher would have to look for it (sql/read/wake.sql).
 *
 * @param quiet How long ago something was found, in milliseconds.
 * @param atMost The longest time, in milliseconds.
 */
export function pace(quiet: number, atMost: number): number {
  return Math.min(atMost, Math.max(shortest, Math.min(longest, quiet * share)));
}

/** Without LISTEN, how long after it has found something a reader looks again at first, in milliseconds. */
const soon = 50;

/**
 * When a reader without LISTEN looks again, in milliseconds: soon after it has found something, and later and
 * later if it finds no more, as it waits half as long as it has found nothing.
 *
 * @param quiet How long ago something was found, in milliseconds.
 * @param atMost The longest time, in milliseconds.
 */
export function unheardPace(quiet: number, atMost: number): number {
  return Math.min(atMost, Math.max(soon, quiet / 2));
}
