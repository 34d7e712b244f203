/**
 * What is said of watches that are not as they should be any more.
 *
 * @module
 */

import type { WatchStatus } from "../changes/watches.ts";
import { quoted } from "./consumer.ts";
import { paint, visible } from "./output.ts";

/** A line for each watch of which there is something to say. */
export function driftLines(watches: readonly WatchStatus[]): string[] {
  return watches.filter(({ drift }) => drift.length > 0).map(({ table, name, exists, drift }) => {
    const named = `${quoted(table)}${name === "watch" ? "" : ` --name ${quoted(name)}`}`;
    const sentences = exists ? drift : [...drift, `hark watch remove ${named}`];
    return paint(
      "yellow",
      `${visible(table)}, watch "${visible(name)}": ${sentences.map(visible).join("; ")}`,
    );
  });
}
