/**
 * Colours, and text of others made safe for a terminal.
 *
 * @module
 */

import { visible } from "../../visible.ts";
import { type Output, surroundings } from "../process/surroundings.ts";

export { visible };

/** As {@linkcode visible} for several lines, indented after the first so that none passes for a line of ours. */
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
