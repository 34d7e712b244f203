/**
 * Checks payloads, keys and headers, and turns them into text for the log.
 *
 * @module
 */

import { show, text } from "../check.ts";
import { HarkError } from "../errors.ts";
import { jsonText } from "./json.ts";

/** A value that JSON can hold. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [name: string]: Json | undefined };

/** Turns a payload into JSON text that `jsonb` accepts. */
export function payloadText(value: unknown, what: string = "payload"): string {
  return jsonText(value, what);
}

/**
 * Checks a key: text of at most 1,000 characters. A number becomes its digits.
 *
 * @param what Names the key in messages.
 */
export function keyText(value: unknown, what: string = "key"): string | null {
  if (value === undefined || value === null) return null;
  const key = wordOf(value);
  if (key === undefined) {
    throw new HarkError("BAD_PAYLOAD", `${what} is ${show(value)}, which is not text`, {
      remedy: "Give text, a bigint, or a number that is whole and below 2^53 or has a fraction.",
    });
  }
  if (key.length > 1000 && [...key].length > 1000) {
    throw new HarkError("BAD_PAYLOAD", `${what} ${show(key)} is longer than 1,000 characters`, {
      remedy: "Use a shorter key, such as a hash of it.",
    });
  }
  return text(what, key, "BAD_PAYLOAD");
}

/** Text, or the digits of a number that has not lost any. */
export function wordOf(value: unknown): string | undefined {
  switch (typeof value) {
    case "string":
      return value;
    case "bigint":
      return String(value);
    case "number":
      return Number.isSafeInteger(value) || Number.isFinite(value) && !Number.isInteger(value)
        ? String(value)
        : undefined;
    default:
      return undefined;
  }
}

/**
 * Checks headers: an object, or nothing.
 *
 * @param what Names them in messages.
 */
export function headersText(value: unknown, what: string = "headers"): string | null {
  if (value === undefined || value === null) return null;
  const json = typeof value === "object" && !Array.isArray(value) ? jsonText(value, what) : "";
  // A Date or another object may become text or a number.
  if (json.startsWith("{")) return json;
  throw new HarkError("BAD_PAYLOAD", `${what} ${show(value)} is not an object`, {
    remedy: 'Give an object, such as { trace: "b2c4" }.',
  });
}

/**
 * Adds the headers that carry a trace to the text of other headers. If those name a trace, they stay
 * as they are.
 */
export function withCarried(
  headers: string | null,
  carried: Readonly<Record<string, string>> | undefined,
): string | null {
  if (carried === undefined) return headers;
  const fields = JSON.stringify(carried);
  if (headers === null) return fields === "{}" ? null : fields;
  // Only a text that has the name may have the header.
  const names = headers.includes("traceparent") ? JSON.parse(headers) as object : {};
  if ("traceparent" in names || fields === "{}") return headers;
  return headers === "{}" ? fields : `${fields.slice(0, -1)},${headers.slice(1)}`;
}
