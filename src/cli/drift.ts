/**
 * Watches that are no longer as they were defined.
 *
 * @module
 */

import type { WatchStatus } from "../changes/watches.ts";
import { table } from "./table.ts";
import { shellWord } from "./text.ts";

/** A row for each watch that has drifted; empty if none has. */
export function driftTable(watches: readonly WatchStatus[]): string {
  const drifted = watches.filter(({ drift }) => drift.length > 0);
  if (drifted.length === 0) return "";
  return table(
    ["drifted table", "watch", "problem"],
    drifted.map(({ table, name, exists, drift }) => {
      const option = name === "watch" ? "" : ` --name ${shellWord(name)}`;
      const lines = exists ? drift : [...drift, `hark watch remove ${shellWord(table)}${option}`];
      return [table, name, { text: lines.join("\n"), style: exists ? "yellow" : "red" }];
    }),
  );
}
