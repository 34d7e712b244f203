/**
 * The reason for which a worker loses a partition.
 *
 * @module
 */

import { HarkError } from "../../errors.ts";

/** The reason for which a partition is lost. */
export function takenOver(consumer: string, partition: number): HarkError {
  return new HarkError(
    "FENCED",
    `this worker no longer serves partition ${partition} of consumer "${consumer}"`,
    { remedy: "Another worker has taken over, or a seek or a removal has ended the claim." },
  );
}
