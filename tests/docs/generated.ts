/**
 * The parts of the documentation that are made: help pages, screens, signatures.
 *
 * @module
 */

import type { Block } from "../checks/markdown.ts";
import type { SqlFunction } from "./functions.ts";
import { helpOf } from "./help.ts";

/** What the blocks that need a database are made of. */
export interface Made {
  readonly screens: ReadonlyMap<string, string>;
  readonly functions: ReadonlyMap<string, SqlFunction>;
}

/** The text that a block has to have; undefined where it is not a generated one, or `made` is missing. */
export async function generated(
  { note }: Block,
  made: Made | undefined,
): Promise<string | undefined> {
  const [, kind, what = ""] = /^(help|screen|sql): (.*)$/.exec(note) ?? [];
  if (kind === "help") return await helpOf(what);
  if (made === undefined) return undefined;
  if (kind === "screen") return found(made.screens, what, "screen");
  if (kind !== "sql") return undefined;
  return what.split(" ").map((name) => found(made.functions, name, "function").signature).join(
    "\n",
  );
}

function found<T>(all: ReadonlyMap<string, T>, name: string, what: string): T {
  const one = all.get(name);
  if (one !== undefined) return one;
  throw new Error(`there is no ${what} "${name}"; there is ${[...all.keys()].join(", ")}`);
}
