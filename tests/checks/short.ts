/**
 * No file of the program is longer than a reader holds in mind: one that is has two parts, each with a
 * name of its own.
 *
 * @module
 */

import { filesBelow } from "./files.ts";

/** The most lines of a file. */
const most = 300;

/** Gives a sentence for each file that is too long. */
export async function short(): Promise<string[]> {
  const wrong: string[] = [];
  for (const path of await filesBelow("src", "bench", "tests/harness")) {
    if (!path.endsWith(".ts")) continue;
    const lines = (await Deno.readTextFile(path)).trimEnd().split("\n").length;
    if (lines > most) {
      wrong.push(
        `${path} has ${lines} lines, more than ${most}: give a part of it a file of its own`,
      );
    }
  }
  return wrong;
}
