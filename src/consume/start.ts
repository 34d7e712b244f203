/**
 * Where a reader begins.
 *
 * @module
 */

import { bad, show } from "../check.ts";
import { HarkError } from "../errors.ts";

/**
 * A place in the log:
 *
 * - `"beginning"`: with everything in the log.
 * - `"now"`: with notifications that are not committed yet, including those of transactions that
 *   already run.
 * - `{ id }`: with that id and all above it.
 * - `{ time }`: with at least everything committed since that time. Reading begins at the last
 *   mark before it. A mark is a stored moment of the log. While readers run and anything is
 *   published, marks are about a second apart; after an hour, a minute. So some older notifications
 *   may come first.
 */
export type LogPlace =
  | "beginning"
  | "now"
  | { readonly id: number }
  | { readonly time: Date };

/**
 * Where a reader begins, the first time: at a place in the log, or with `{ position }` behind the
 * notification that had this `position` in a subscription.
 */
export type StartFrom = LogPlace | { readonly position: string };

/** How a place in the log is given, for messages. */
export const placeForms = "{ id: 42 } or { time: new Date(…) }";

/** A start as the SQL functions take it: kind, id, time, and a position's text. */
export type StartValues = [
  kind: string,
  id: number | null,
  time: string | null,
  position?: string,
];

/** Checks a start and converts it for the SQL functions. */
export function startValues(from: StartFrom): StartValues {
  if (from === "beginning" || from === "now") return [from, null, null];
  const given = from as { id?: unknown; time?: unknown; position?: unknown } | null;
  if (given !== null && typeof given === "object") {
    const names = Object.keys(given);
    if (names.length === 1 && names[0] === "id") {
      if (!Number.isSafeInteger(given.id) || given.id as number < 1) {
        bad("from.id", given.id, "Give the id of a notification, at least 1.");
      }
      return ["id", given.id as number, null];
    }
    if (names.length === 1 && names[0] === "time") {
      if (!(given.time instanceof Date) || Number.isNaN(given.time.getTime())) {
        bad("from.time", given.time, "Give a valid Date, such as new Date(…).");
      }
      return ["time", null, given.time.toISOString()];
    }
    if (names.length === 1 && names[0] === "position") {
      if (typeof given.position !== "string") {
        bad("from.position", given.position, "Give the position of a notification.");
      }
      return ["position", null, null, given.position];
    }
  }
  throw new HarkError("BAD_OPTION", `from is ${show(from)}`, {
    remedy: `Give "beginning", "now", { position }, ${placeForms}.`,
  });
}
