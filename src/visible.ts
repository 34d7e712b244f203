/**
 * Text of others made safe for a terminal, and for the database.
 *
 * @module
 */

// Control characters (C0, DEL, C1), line separators, and characters that turn the direction of text.
const unsafe =
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text as PostgreSQL can store it: it has no NUL, and no half of a surrogate pair. */
export function storable(text: string): string {
  return text.replaceAll("\0", "\uFFFD").toWellFormed();
}

/** The most characters of an error that are stored, as in hark.error_text. */
export const mostOfError = 10_000;

/** The start of a text that is longer than `most` characters. An error may hold a whole response. */
export function shortened(text: string, most: number = mostOfError): string {
  if (text.length <= most) return text;
  return `${text.slice(0, most - 1).replace(/[\ud800-\udbff]$/, "")}…`;
}

/** Writes each control character and each one that changes the direction of text as JSON does. */
export function visible(text: string): string {
  return text.replaceAll(
    unsafe,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Text in ASCII: every other character is written as JSON does, such as \u043a. */
export function ascii(text: string): string {
  return text.replaceAll(
    // deno-lint-ignore no-control-regex -- all of ASCII
    /[^\x00-\x7f]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A word as a shell takes it. */
export function shellWord(word: string): string {
  return /^[\w.:/@-]+$/.test(word) ? word : `'${visible(word).replaceAll("'", "'\\''")}'`;
}
