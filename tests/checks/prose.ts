/**
 * Whether the documentation is written in plain words: none of those that hide the actor or the thing,
 * and no sentence of more than 25 words. Code, tables and links are left out.
 *
 *     deno run -P=docs tests/checks/prose.ts
 *
 * @module
 */

import { type Page, pagesBelow, proseOf, readPage } from "./markdown.ts";

/** What is checked. */
const scope = ["README.md", "docs"];

const longest = 25;

/** A word that is refused, and what to write instead. */
const refused: readonly (readonly [words: RegExp, instead: string])[] = [
  [/\bwho(m|ever|soever)?\b/gi, "name the worker, publisher, handler or role"],
  [/\b(some|no|every|any)body\b/gi, "name the worker, publisher, handler or role"],
  [/\bmeanwhile\b/gi, "say during what"],
  [/\bso (many|long|much|few)\b/gi, "give the number, or say how it is set"],
  [/\bit is to be\b/gi, "name what is to be, and what is done with it"],
  [/\bbut for\b/gi, 'write "except", or a second sentence'],
  [/\b(those|that) of (its|their|the)\b/gi, "name the thing"],
  [/\b(leaf|park(ed|s)?)\b/gi, 'write "segment" or "waiting"'],
  [/\bwhereof|thereof|therein|hitherto\b/gi, "use a plain word"],
];

/** What is wrong with a page, a line each: `file:line: …`. */
export function faultsOf(page: Page): string[] {
  const faults: string[] = [];
  for (const { line, text } of proseOf(page)) {
    const at = (index: number) =>
      `${page.path}:${line + (text.slice(0, index).match(/\n/g)?.length ?? 0)}`;
    for (const [words, instead] of refused) {
      for (const { 0: found, index } of text.matchAll(words)) {
        faults.push(`${at(index)}: "${found}": ${instead}`);
      }
    }
    let begun = 0;
    for (const sentence of text.split(/(?<=[.!?:]["')]*)(?=\s)/)) {
      const words = sentence.trim().split(/\s+/);
      const count = words.filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
      if (count > longest) {
        const begin = words.slice(0, 6).join(" ");
        faults.push(`${at(begun + sentence.search(/\S/))}: ${count} words: "${begin} …"`);
      }
      begun += sentence.length;
    }
  }
  return faults;
}

if (import.meta.main) {
  const pages = await Promise.all((await pagesBelow(scope)).map(readPage));
  const faults = pages.flatMap(faultsOf);
  for (const fault of faults) console.log(fault);
  if (faults.length > 0) {
    console.log(`${faults.length} faults: write plainly, at most ${longest} words a sentence`);
    Deno.exit(1);
  }
}
