/**
 * Checks payloads, keys and headers, and turns them into text for the log.
 *
 * @module
 */

import { show, text } from "../check.ts";
import { HarkError } from "../errors.ts";

/** A value that JSON can hold. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [name: string]: Json | undefined };

function refuse(what: string, value: unknown, reason: string, cause?: unknown): never {
  throw new HarkError("BAD_PAYLOAD", `${what} ${show(value)} ${reason}`, {
    cause,
    remedy: "Give a value that JSON can hold.",
  });
}

/** Turns a payload into JSON text that `jsonb` accepts. */
export function payloadText(value: unknown, what: string = "payload"): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value, (name, inner) => {
      if (typeof inner === "function" || typeof inner === "symbol") {
        refuse(what, inner, `${name === "" ? "is" : `at "${name}" is`} not JSON`);
      }
      if (typeof inner === "number" && !Number.isFinite(inner)) {
        refuse(what, String(inner), `${name === "" ? "is" : `at "${name}" is`} not a JSON number`);
      }
      return inner;
    });
  } catch (error) {
    if (error instanceof HarkError) throw error;
    refuse(what, value, `is not JSON (${(error as Error).message.split("\n")[0]})`, error);
  }
  if (json === undefined) refuse(what, value, "is not JSON");
  // JSON.stringify writes U+0000 and unpaired surrogates as escapes, which jsonb refuses. An escape
  // whose backslash is itself escaped is ordinary text.
  if (/\\u(0000|d[89a-f])/.test(json)) {
    const found = /(?:^|[^\\])(?:\\\\)*\\u(0000|d[89a-f][0-9a-f]{2})/.exec(json);
    if (found !== null) refuse(what, value, `holds \\u${found[1]}, which PostgreSQL cannot store`);
  }
  return json;
}

/** Checks a key: text of at most 1,000 characters. */
export function keyText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "string") refuse("key", value, "is not text");
  if (value.length > 1000 && [...value].length > 1000) {
    throw new HarkError("BAD_PAYLOAD", `key ${show(value)} is longer than 1,000 characters`, {
      remedy: "Use a shorter key, such as a hash of it.",
    });
  }
  return text("key", value, "BAD_PAYLOAD");
}

/** Checks headers: an object, or nothing. */
export function headersText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "object" || Array.isArray(value)) {
    refuse("headers", value, "are not an object");
  }
  return payloadText(value, "headers");
}
