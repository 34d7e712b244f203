/**
 * Whether the documentation is written in plain words: none of those that hide the actor or the thing,
 * and no sentence of more than 25 words. Code, tables and links are left out. In code and SQL, comments
 * and texts in quotes are checked for the same words.
 *
 *     deno run -P=docs tests/checks/prose.ts
 *
 * @module
 */

import { filesBelow } from "./files.ts";
import { type Page, pagesBelow, proseOf, readPage } from "./markdown.ts";

/** The pages that are checked. */
const scope = ["README.md", "docs"];

/** The folders of code that are checked. */
const code = ["src", "sql", "examples", "bench"];

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

/** The parts of a line of code that are read as words: its comment, and texts of several words. */
function wordsIn(line: string, isSql: boolean): string[] {
  const comment = isSql ? /--.*$/ : /^\s*(?:\/\*|\*|\/\/).*$|\s\/\/ .*$/;
  const quoted = isSql ? /'(?:[^']|'')*'/g : /"(?:[^"\\]|\\.)*"|`[^`]*`|'[^']*'/g;
  const rest = line.replace(comment, "");
  return [
    comment.exec(line)?.[0] ?? "",
    ...[...rest.matchAll(quoted)].map(([text]) => text).filter((text) => /\s/.test(text)),
  ];
}

/** What is wrong with a file of code, a line each. */
export function faultsOfCode(path: string, text: string): string[] {
  return text.split("\n").flatMap((line, n) =>
    wordsIn(line, path.endsWith(".sql")).flatMap((words) =>
      // A single word in quotes is a name, such as the user "nobody", and so is that of a parameter.
      refused.flatMap(([refusal, instead]) =>
        [...words.replaceAll(/(?<=.)"\w+"|@param \w+/g, "x").matchAll(refusal)]
          .map(([found]) => `${path}:${n + 1}: "${found}": ${instead}`)
      )
    )
  );
}

if (import.meta.main) {
  const pages = await Promise.all((await pagesBelow(scope)).map(readPage));
  const files = (await filesBelow(...code))
    .filter((path) => /\.(ts|sql)$/.test(path));
  const faults = [
    ...pages.flatMap(faultsOf),
    ...(await Promise.all(
      files.map(async (path) => faultsOfCode(path, await Deno.readTextFile(path))),
    )).flat(),
  ];
  for (const fault of faults) console.log(fault);
  if (faults.length > 0) {
    console.log(`${faults.length} faults: write plainly, at most ${longest} words a sentence`);
    Deno.exit(1);
  }
}
