/**
 * Checks of what callers pass in. Each error names the value, the reason and the remedy.
 *
 * @module
 */

import { HarkError } from "./errors.ts";
import { show } from "./show.ts";

export { show };

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
  return value === undefined ? otherwise : requiredWhole(name, value, least, most);
}

/**
 * Checks a whole number that has no default.
 *
 * @param more What else may be given, for the remedy.
 */
export function requiredWhole(
  name: string,
  value: unknown,
  least: number,
  most: number,
  more?: string,
): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) {
    return value;
  }
  const bounds = most === Number.MAX_SAFE_INTEGER
    ? `of at least ${least}`
    : `from ${least} to ${most}`;
  return bad(name, value, `Give a whole number ${bounds}${more === undefined ? "" : `, ${more}`}.`);
}

/** Checks a signal that is to end something. */
export function abortSignal(name: string, value: unknown): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  return bad(name, value, "Give the signal of an AbortController.");
}

/**
 * Refuses unknown options, so that a misspelt option is not silently ignored.
 *
 * @param example What to give instead of a value that is no object of options.
 */
export function knownOptions(
  what: string,
  options: unknown,
  known: readonly string[],
  example?: string,
): void {
  // A Map, a Date or a promise has no option by itself, and would pass for an empty object.
  const isObject = Object.prototype.toString.call(options) === "[object Object]";
  if (!isObject) {
    const isPromise = typeof (options as { then?: unknown } | null)?.then === "function";
    throw new HarkError(
      "BAD_OPTION",
      `${what} was given ${show(options)}, not an object of options`,
      {
        remedy: isPromise
          ? "Await it."
          : example !== undefined
          ? `Give an object, such as ${example}.`
          : `Give an object with some of: ${known.join(", ")}.`,
      },
    );
  }
  for (const name of Object.keys(options as object)) {
    if (!known.includes(name)) {
      throw new HarkError("BAD_OPTION", `${what} has no option ${show(name)}`, {
        remedy: `${suggestion(name, known)}Known options: ${known.join(", ")}.`,
      });
    }
  }
}

/**
 * "Did you mean …? " for the known names that an unknown one is like, or begins like. Empty if there
 * is none.
 */
export function suggestion(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  const begun = (one: string) => name.length >= 3 && one.startsWith(name) || name === `${one}s`;
  const likely = near === undefined ? known.filter(begun) : [near];
  return likely.length === 0 ? "" : `Did you mean ${oneOfText(likely)}? `;
}

/** `a`, `a or b`, `a, b or c`. */
function oneOfText(names: readonly string[]): string {
  return [names.slice(0, -1).join(", "), names.at(-1)].filter((part) => part !== "").join(" or ");
}

/** Names that other tools have for an option. */
const foreign: Readonly<Record<string, string>> = {
  retries: "maxAttempts",
  maxRetries: "maxAttempts",
  attempts: "maxAttempts",
  prefetch: "readAhead",
  queue: "channels",
  topic: "channels",
  topics: "channels",
};

/**
 * The known name that is meant by one of another tool, or that a misspelt one is most like: with other
 * capitals or underscores, or with one letter in four wrong, missing, too many or in the wrong place,
 * but at most two.
 */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const meant = Object.hasOwn(foreign, name) ? foreign[name] : undefined;
  if (meant !== undefined && known.includes(meant)) return meant;
  const plain = (text: string) => text.replaceAll(/[_-]/g, "").toLowerCase();
  let found: string | undefined;
  let least = Infinity;
  for (const one of known) {
    const most = Math.min(2, Math.floor(one.length / 4));
    const distance = distanceOf(plain(name), plain(one));
    if (distance <= most && distance < least) [found, least] = [one, distance];
  }
  return found;
}

/** How many letters to change, add, take away, or swap with the next. */
function distanceOf(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, before[j - 2]! + 1);
      }
      row.push(cost);
    }
    [before, last] = [last, row];
  }
  return last[b.length]!;
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
 *
 * @param reader The reader, for the message, such as `consumer "billing"`.
 */
export function channelNames(value: unknown, reader?: string): string[] {
  const names = typeof value === "string" ? [value] : value;
  if (!Array.isArray(names) || names.length === 0) {
    const of = reader === undefined ? "" : ` of ${reader}`;
    bad(`channels${of}`, value, "Give at least one channel name.");
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
