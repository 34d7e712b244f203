/**
 * The digits that numbers in the data of events lose in JavaScript.
 *
 * @module
 */

import { losesDigits, mayLoseDigits, parseExact } from "../exact_json.ts";

/** The data with all digits, by the data. By the event if the data is no object. */
const kept = new WeakMap<object, unknown>();

/** Parses JSON. `exact` is the same with all digits; it is undefined if none are lost. */
export function parseBoth(text: string): { readonly value: unknown; readonly exact?: unknown } {
  const value: unknown = JSON.parse(text);
  if (!mayLoseDigits(text)) return { value };
  let loses = false;
  // Only those: a program that looks at 10.0 or 1e3 gets a number, as it always did.
  const exact = parseExact(text, (number, source) => {
    const isOther = losesDigits(number, source);
    loses ||= isOther;
    return isOther;
  });
  return loses ? { value, exact } : { value };
}

/** Keeps the digits that an event's data has lost, if any, for {@linkcode exactData}. */
export function keepDigits<T extends { readonly data?: unknown }>(event: T, exact: unknown): T {
  if (exact !== undefined) kept.set(holderOf(event), exact);
  return event;
}

/** The data of an event with all digits that it came with, unless it was changed since. */
export function exactData(event: { readonly data?: unknown }): unknown {
  const { data } = event;
  const exact = kept.get(holderOf(event));
  return exact !== undefined && isSame(exact, data) ? exact : data;
}

function holderOf(event: { readonly data?: unknown }): object {
  const { data } = event;
  return typeof data === "object" && data !== null ? data : event;
}

function isSame(exact: unknown, data: unknown): boolean {
  try {
    return JSON.stringify(JSON.parse(JSON.stringify(exact))) === JSON.stringify(data);
  } catch {
    return false; // it was given something since that is no JSON
  }
}
