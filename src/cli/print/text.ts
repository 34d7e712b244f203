/**
 * Numbers, durations and times as people read them, the same in every locale.
 *
 * @module
 */

import { durationText } from "../../show.ts";
import { visible } from "./style.ts";

export { bytesText, countText, durationText, numberText } from "../../show.ts";
export { shellWord } from "../../visible.ts";

/** How long ago a time was; `never` for null. */
export function ago(time: Date | null): string {
  return time === null ? "never" : `${durationText(Date.now() - time.getTime())} ago`;
}

/** When a time in the future comes: `in 5.6 min`, or `now` if it has passed. */
export function until(time: Date): string {
  const ms = time.getTime() - Date.now();
  return ms > 0 ? `in ${durationText(ms)}` : "now";
}

/** A time to the second, as options such as `--from` take it. */
export function timeText(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, "Z");
}

/** A text, shortened to a number of characters. */
export function shortened(text: string, most = 40): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** An error on one line, shortened: what is cut from it stands elsewhere. */
export function errorInShort(error: string): string {
  return shortened(error, 80).replaceAll("\n", " ");
}

/** A role, and the one that had logged in if that was another. */
export function roleText({ role, login }: { readonly role: string; readonly login: string }) {
  return role === login ? role : `${role} (${login})`;
}

/** A name in quotes, as it may be shown. */
export function named(name: string): string {
  return `"${visible(name)}"`;
}
