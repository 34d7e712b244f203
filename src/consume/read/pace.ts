/**
 * How often a reader of all channels looks at the log. Publishers do not wake it: if they did, every
 * publisher would have to look for it (sql/read/wake.sql).
 *
 * @module
 */

/** The shortest and the longest time between two looks, in milliseconds. */
const shortest = 10;
const longest = 100;
/** Between two looks passes this share of the time since something was found. */
const share = 0.1;

/**
 * When to look again, in milliseconds from now.
 *
 * @param quiet How long ago something was found, in milliseconds.
 * @param atMost The longest time, in milliseconds.
 */
export function pace(quiet: number, atMost: number): number {
  return Math.min(atMost, Math.max(shortest, Math.min(longest, quiet * share)));
}
