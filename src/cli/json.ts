/**
 * JSON as it was typed: a number keeps all its digits.
 *
 * @module
 */

import { show } from "../check.ts";
import { HarkError } from "../errors.ts";

/** Since ECMAScript 2026; TypeScript 6.0 does not know it yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** Parses JSON so that `JSON.stringify` gives the same numbers again, also beyond 2^53. */
export function parseJson(text: string): unknown {
  const keep = (_name: string, value: unknown, context?: { readonly source?: string }): unknown =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source
      ? rawJSON(context.source)
      : value;
  return JSON.parse(text, keep);
}

/** Parses a payload from the command line, where forgotten quotes are the usual mistake. */
export function parsePayload(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    throw new HarkError("BAD_PAYLOAD", `the payload ${show(text)} is not JSON`, {
      cause: error,
      remedy: `Quote it as JSON, such as '{"id":42}' or '"${word(text)}"', or add --text to ` +
        "publish it as a string.",
    });
  }
}

/** A part of a text that needs no quoting, for an example. */
function word(text: string): string {
  return /^[\w .-]{1,30}$/.test(text) ? text : "text";
}
