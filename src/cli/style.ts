/**
 * Colours, and text of others made safe for a terminal.
 *
 * @module
 */

import { type Output, surroundings } from "./surroundings.ts";

// Control characters (C0, DEL, C1), line separators, and characters that turn the direction of text.
const unsafe =
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  /[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Writes each control character and each one that changes the direction of text as JSON does. */
export function visible(text: string): string {
  return text.replaceAll(
    unsafe,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The same for several lines, indented after the first so that none passes for a line of ours. */
export function visibleLines(text: string): string {
  return text.split("\n").map(visible).join("\n    ");
}

const styles = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

/** A colour or weight. */
export type Style = keyof typeof styles;

/** Colours a text for standard output. */
export function paint(style: Style, text: string): string {
  return paintOn(surroundings().stdout, style, text);
}

/** Colours a text for standard error. */
export function paintError(style: Style, text: string): string {
  return paintOn(surroundings().stderr, style, text);
}

function paintOn(to: Output, style: Style, text: string): string {
  return isColoured(to) ? `\x1b[${styles[style]}m${text}\x1b[0m` : text;
}

/** FORCE_COLOR comes before NO_COLOR, as in Deno and Node.js; without either, terminals are coloured. */
function isColoured(to: Output): boolean {
  const { variable } = surroundings();
  const forced = variable("FORCE_COLOR");
  if (forced) return forced !== "0" && forced !== "false";
  return to.isTerminal() && !variable("NO_COLOR");
}
