/**
 * The secrets of wakes.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { secretBytes } from "../handlers/signature.ts";

/** The variable that the examples read it from, and `hark wake`. */
const variable = "HARK_WAKE_SECRET";
/** The most secrets at a time. */
const most = 5;

/**
 * Reads one secret, or several while one replaces another.
 *
 * @throws {HarkError} `BAD_OPTION`. The message does not show a secret.
 */
export function secretsOf(given: unknown): Uint8Array<ArrayBuffer>[] {
  if (!Array.isArray(given)) return [secretBytes(given, "secret", variable)];
  if (given.length === 0 || given.length > most) {
    throw new HarkError("BAD_OPTION", `secret is an array of ${given.length}`, {
      remedy: `Give 1 to ${most} secrets: the new one and the old one.`,
    });
  }
  return given.map((one, i) => secretBytes(one, `secret[${i}]`, variable));
}
