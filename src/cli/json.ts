/**
 * JSON as it was typed: each number keeps all its digits.
 *
 * @module
 */

import { show } from "../check.ts";
import { HarkError } from "../errors.ts";

/** Since ECMAScript 2026; TypeScript 6.0 does not know it yet. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

/** Parses JSON so that `JSON.stringify` gives the same numbers again, even beyond 2^53. */
export function parseJson(text: string): unknown {
  const keep = (_name: string, value: unknown, context?: { readonly source?: string }): unknown =>
    typeof value === "number" && context?.source !== undefined && String(value) !== context.source
      ? rawJSON(context.source)
      : value;
  return JSON.parse(text, keep);
}

/** Parses a payload of the command line. The usual mistake is to forget the quotes. */
export function parsePayload(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    throw new HarkError("BAD_PAYLOAD", `the payload ${show(text)} is not JSON`, {
      cause: error,
      remedy: `Quote it as JSON, such as '{"id":42}' or '"${word(text)}"'. To publish it as a ` +
        "string, add --text.",
    });
  }
}

/** The text for an example if it needs no quoting. */
function word(text: string): string {
  return /^[\w .-]{1,30}$/.test(text) ? text : "text";
}
