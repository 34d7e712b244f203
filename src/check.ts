/**
 * Checks of what callers pass in. Each error names the value, the reason and the remedy.
 *
 * @module
 */

import { HarkError } from "./errors.ts";

/** Formats a value for an error message, shortened to 80 characters. */
export function show(value: unknown): string {
  let text: string | undefined;
  try {
    text = typeof value === "string"
      ? JSON.stringify(value)
      : typeof value === "bigint"
      ? `${value}n`
      : typeof value === "number"
      ? String(value) // JSON has no NaN and no infinity, and would print null
      : typeof value === "function"
      ? "a function"
      : value instanceof Date
      ? String(value)
      : JSON.stringify(value);
  } catch {
    text = undefined;
  }
  try {
    text ??= String(value);
  } catch {
    text = Object.prototype.toString.call(value); // its own toString throws
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Throws `BAD_OPTION`. */
export function bad(name: string, value: unknown, remedy: string): never {
  throw new HarkError("BAD_OPTION", `${name} is ${show(value)}`, { remedy });
}

/**
 * Checks that a value is a whole number within bounds. Returns the default if no value is given.
 */
export function wholeNumber(
  name: string,
  value: number | undefined,
  otherwise: number,
  least: number,
  most: number = Number.MAX_SAFE_INTEGER,
): number {
  if (value === undefined) return otherwise;
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    bad(
      name,
      value,
      most === Number.MAX_SAFE_INTEGER
        ? `Give a whole number of at least ${least}.`
        : `Give a whole number from ${least} to ${most}.`,
    );
  }
  return value;
}

/** Refuses unknown options, so that a misspelt option is not silently ignored. */
export function knownOptions(what: string, options: object, known: readonly string[]): void {
  if (options === null || typeof options !== "object") {
    bad(what, options, "Give an object of options.");
  }
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new HarkError("BAD_OPTION", `${what} has no option "${name}"`, {
        remedy: `Known options: ${known.join(", ")}.`,
      });
    }
  }
}

/**
 * Checks a channel name: 1 to 200 characters, counted as PostgreSQL counts them, without U+0000.
 */
export function channelName(value: unknown): string {
  if (typeof value !== "string") {
    throw new HarkError("BAD_CHANNEL", `channel is ${show(value)}`, {
      remedy: "Give a name of 1 to 200 characters.",
    });
  }
  const length = value.length > 400 ? value.length : [...value].length;
  if (length < 1 || length > 200) {
    throw new HarkError(
      "BAD_CHANNEL",
      `channel ${show(value)} has ${length === 0 ? "no" : length} characters`,
      { remedy: "Give a name of 1 to 200 characters." },
    );
  }
  return text("channel", value, "BAD_CHANNEL");
}

/**
 * Checks the channels that a reader asks for: one name or several. Returns them without repeats.
 */
export function channelNames(value: unknown): string[] {
  const names = typeof value === "string" ? [value] : value;
  if (!Array.isArray(names) || names.length === 0) {
    bad("channels", value, "Give at least one channel name.");
  }
  return [...new Set(names.map(channelName))];
}

/** Checks that PostgreSQL can store a text: no U+0000 and no unpaired surrogate. */
export function text(
  name: string,
  value: string,
  code: "BAD_CHANNEL" | "BAD_PAYLOAD" | "BAD_OPTION",
): string {
  if (value.includes("\0") || !value.isWellFormed()) {
    throw new HarkError(code, `${name} ${show(value)} holds text that PostgreSQL cannot store`, {
      remedy: "Remove U+0000 and unpaired surrogates.",
    });
  }
  return value;
}

/** Checks a consumer name: 1 to 200 characters. */
export function consumerName(value: unknown): string {
  if (value === undefined || value === null || value === "") {
    throw new HarkError("BAD_OPTION", "a consumer has no id", {
      remedy: 'Give one, such as { id: "billing" }. The position is stored under that name.',
    });
  }
  if (typeof value !== "string" || [...value].length > 200) {
    bad("consumer id", value, "Give a name of 1 to 200 characters.");
  }
  return text("consumer id", value, "BAD_OPTION");
}

/** Turns an id as drivers return it (number, decimal text or bigint) into a safe integer. */
export function toId(value: unknown): number {
  const id = typeof value === "number" ? value : Number(value);
  if (value === null || !Number.isSafeInteger(id)) {
    throw new HarkError("DATABASE", `the server returned ${show(value)} where an id was expected`, {
      remedy: "Hark needs ids that are whole numbers below 2^53.",
    });
  }
  return id;
}
