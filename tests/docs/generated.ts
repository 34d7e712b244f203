/**
 * The parts of the documentation that are made: help pages, screens, signatures.
 *
 * @module
 */

import { type Block, blocksOf, type Page } from "../checks/markdown.ts";
import type { Right, SqlFunction } from "./functions.ts";
import { helpOf } from "./help.ts";

/** What the blocks that need a database are made of. */
export interface Made {
  readonly screens: ReadonlyMap<string, string>;
  readonly functions: ReadonlyMap<string, SqlFunction>;
}

/** The text that a block has to have; undefined where it is not a generated one, or `made` is missing. */
export async function generated(
  page: Page,
  { note }: Block,
  made: Made | undefined,
): Promise<string | undefined> {
  const [, kind, what = ""] = /^(help|screen|sql|names): (.*)$/.exec(note) ?? [];
  if (kind === "help") return await helpOf(what);
  if (made === undefined) return undefined;
  if (kind === "screen") return found(made.screens, what, "screen");
  if (kind === "names") return otherNames(page, made.functions, what as Right);
  if (kind !== "sql") return undefined;
  return what.split(" ").map((name) => found(made.functions, name, "function").signature).join(
    "\n",
  );
}

/** The functions that a right gives and the page shows nowhere else. */
function otherNames(page: Page, all: Made["functions"], right: Right): string {
  const shown = new Set(
    blocksOf(page).filter(({ note }) => note.startsWith("sql: "))
      .flatMap(({ note }) => note.slice(5).split(" ")),
  );
  const lines = [""];
  for (const { name, rights } of all.values()) {
    if (shown.has(name) || !rights.has(right)) continue;
    if (`${lines.at(-1)} ${name}`.length > 96) lines.push(name);
    else lines[lines.length - 1] = `${lines.at(-1)} ${name}`.trim();
  }
  return lines.join("\n");
}

function found<T>(all: ReadonlyMap<string, T>, name: string, what: string): T {
  const one = all.get(name);
  if (one !== undefined) return one;
  throw new Error(`there is no ${what} "${name}"; there is ${[...all.keys()].join(", ")}`);
}
