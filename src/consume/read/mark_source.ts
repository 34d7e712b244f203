/**
 * Where a reader without a registration has its marks from.
 *
 * @module
 */

import type { Mark } from "../state/position.ts";

/** Gives marks to readers that cut none themselves, such as those of a replica. */
export interface MarkSource {
  /** A mark that sees all that was there to read at the call. */
  now(): Promise<Mark>;
  /** The newest mark. */
  newest(): Promise<Mark>;
  /** Has a newer mark made soon, though nothing new can be seen: a position lies ahead of the newest one. */
  advance(): void;
}
