/**
 * What passes by itself.
 *
 * @module
 */

import { HarkError } from "../errors.ts";

/** Whether an error says that a database is away, which passes by itself. */
export function isAway(error: unknown): boolean {
  return error instanceof HarkError &&
    ["UNREACHABLE", "TIMEOUT", "NOT_PRIMARY"].includes(error.code);
}
