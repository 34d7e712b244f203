/**
 * Which failures of an inbox pass by themselves.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { isAway } from "../relay/is_away.ts";
import { Lost } from "../relay/sink.ts";

/** Whether a later attempt may succeed. */
export function passes(error: unknown): boolean {
  return error instanceof Lost || isAway(error) ||
    error instanceof HarkError && error.code === "DATABASE";
}

/** What a start ends with. */
export function firstError(error: unknown): unknown {
  if (!(error instanceof Lost)) return error;
  return new HarkError("UNREACHABLE", error.message, {
    cause: error,
    remedy: "Check that JetStream runs, and which subjects the NATS user may publish on.",
  });
}
