/**
 * The pages of the documentation, taken apart: code blocks with what is said of them, prose, links.
 *
 * A comment on the line above a code block says what is done with the block:
 *
 *     <!-- run -->             run it on a database of the page's own, which keeps what earlier blocks did
 *     <!-- run until: TEXT --> run it until it has printed TEXT, then send SIGTERM
 *     <!-- run with: SET -->   run it with another permission set than "example"
 *     <!-- test -->            run it by `deno test`
 *     <!-- prints -->          what the block before it has to print
 *     <!-- help: COMMAND -->   generated: the help page of a command
 *     <!-- screen: NAME -->    generated: what a command prints, see tests/docs/screens.ts
 *     <!-- sql: NAMES -->      generated: the signatures of functions of the schema
 *     <!-- names: RIGHT -->    generated: the other functions that a right gives
 *     <!-- setup: SQL -->      no block: SQL that is run where the comment stands
 *
 * @module
 */

import { fromFileUrl } from "../harness/files.ts";

/** The folder of the project. */
const root = new URL("../../", import.meta.url);

/** A code block of a page, or a `setup` comment, whose language is then "setup". */
export interface Block {
  /** The line its text begins on, from 1. */
  readonly line: number;
  /** The language: "ts", "sh", "sql", "text". */
  readonly language: string;
  /** What the comment above it says; empty without one. */
  readonly note: string;
  /** The code. */
  readonly text: string;
}

/** A page of the documentation. */
export interface Page {
  /** Its path from the project's folder. */
  readonly path: string;
  /** Its lines. */
  readonly lines: readonly string[];
}

/** Reads a page. */
export async function readPage(path: string): Promise<Page> {
  return { path, lines: (await Deno.readTextFile(new URL(path, root))).split("\n") };
}

/** Writes a page. */
export async function writePage(path: string, lines: readonly string[]): Promise<void> {
  await Deno.writeTextFile(new URL(path, root), lines.join("\n"));
}

/** The paths of all Markdown files below these files and folders, sorted. */
export async function pagesBelow(scope: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of scope) {
    if (path.endsWith(".md")) found.push(path);
    else {
      for await (const { name, isDirectory } of Deno.readDir(new URL(path, root))) {
        if (isDirectory) found.push(...await pagesBelow([`${path}/${name}`]));
        else if (name.endsWith(".md")) found.push(`${path}/${name}`);
      }
    }
  }
  return found.sort();
}

/** All pages: README and everything below docs/. */
export async function allPages(): Promise<Page[]> {
  return await Promise.all((await pagesBelow(["README.md", "docs"])).map(readPage));
}

const fence = /^( *)(```+)(\w*)/;

/** The code blocks and setups of a page, in order. */
export function blocksOf({ lines }: Page): Block[] {
  const blocks: Block[] = [];
  let note = "";
  for (let i = 0; i < lines.length; i++) {
    const comment = /^ *<!-- (.*) -->$/.exec(lines[i]!);
    if (comment !== null) {
      const setup = /^setup: (.*)$/.exec(comment[1]!);
      if (setup === null) note = comment[1]!;
      else blocks.push({ line: i + 1, language: "setup", note: "", text: setup[1]! });
      continue;
    }
    const opening = fence.exec(lines[i]!);
    if (opening !== null) {
      const end = lines.findIndex((line, n) => n > i && line.trim() === opening[2]);
      if (end === -1) throw new Error(`line ${i + 1}: a code block without an end`);
      const indent = opening[1]!.length;
      const text = lines.slice(i + 1, end).map((line) => line.slice(indent)).join("\n");
      blocks.push({ line: i + 2, language: opening[3]!, note, text });
      note = "";
      i = end;
    } else if (lines[i]!.trim() !== "") note = "";
  }
  return blocks;
}

/** A page with the text of some blocks replaced: `replace` gives the new text, or undefined to keep it. */
export async function rewritten(
  page: Page,
  replace: (block: Block) => Promise<string | undefined>,
): Promise<string[]> {
  const lines = [...page.lines];
  for (const block of blocksOf(page).reverse()) {
    if (block.language === "setup") continue;
    const text = await replace(block);
    const before = block.text === "" ? 0 : block.text.split("\n").length;
    if (text !== undefined) lines.splice(block.line - 1, before, ...text.split("\n"));
  }
  return lines;
}

/** A paragraph, list item or heading as plain words; code is the letter x, a link its words. */
export interface Paragraph {
  /** The line it begins on. */
  readonly line: number;
  readonly text: string;
}

/** The prose of a page: without code blocks, tables, comments and pictures. */
export function proseOf({ lines }: Page): Paragraph[] {
  const found: { line: number; text: string }[] = [];
  let open = false;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const opening = fence.exec(line);
    if (opening !== null) {
      i = lines.findIndex((other, n) => n > i && other.trim() === opening[2]);
      open = false;
      continue;
    }
    if (line.trim() === "" || /^ *(\||<)/.test(line)) {
      open = false;
      continue;
    }
    const begins = /^ *([-*] |\d+\. |#+ |> )/.test(line);
    const text = plain(line);
    if (begins || !open) found.push({ line: i + 1, text });
    else found.at(-1)!.text += `\n${text}`;
    open = !/^#/.test(line);
  }
  return found.map(({ line, text }) => ({ line, text: withoutMarks(text) }));
}

function plain(line: string): string {
  return line.replace(/^ *([-*] |\d+\. |#+ |> )?/, "");
}

function withoutMarks(text: string): string {
  return text
    .replaceAll(/!\[[^\]]*\]\([^)]*\)/g, (all) => all.replaceAll(/[^\n]/g, ""))
    .replaceAll(/`[^`]*`/g, (all) => `x${all.replaceAll(/[^\n]/g, "")}`)
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replaceAll(/\*\*|__/g, "");
}

/** The links of a page, with the line each is on. */
export function linksOf({ lines }: Page): { readonly line: number; readonly target: string }[] {
  const found: { line: number; target: string }[] = [];
  let closing: string | undefined;
  lines.forEach((line, i) => {
    const opening = fence.exec(line);
    if (closing === undefined && opening !== null) closing = opening[2];
    else if (line.trim() === closing) closing = undefined;
    else if (closing === undefined) {
      const text = line.replaceAll(/`[^`]*`/g, "");
      for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        found.push({ line: i + 1, target: target! });
      }
    }
  });
  return found;
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf({ lines }: Page): Set<string> {
  return new Set(
    lines.filter((line) => /^#+ /.test(line)).map((line) =>
      line.replace(/^#+ /, "").toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(
        " ",
        "-",
      )
    ),
  );
}

/** Whether a file or folder of the project exists. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(fromFileUrl(new URL(path, root)));
    return true;
  } catch {
    return false;
  }
}
