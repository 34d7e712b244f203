/**
 * Whether the documentation is whole: links lead somewhere, the index names every page, and the
 * reference names every option with its default, every command and every error code, as the code has
 * them. What needs a database is compared by tests/docs/docs_test.ts.
 *
 *     deno run -P=docs tests/checks/docs.ts
 *
 * @module
 */

import { commandNames } from "../docs/help.ts";
import { generated } from "../docs/generated.ts";
import { withOptionTables } from "../docs/option_tables.ts";
import { type Declaration, defaultOf, membersOf, symbols } from "../docs/symbols.ts";
import { filesBelow } from "./files.ts";
import { allPages, anchorsOf, blocksOf, exists, linksOf, type Page } from "./markdown.ts";

/** README is to be read in five minutes. */
const longestReadme = 1500;

const pages = await allPages();
const faults: string[] = [];

function page(path: string): Page {
  const found = pages.find((one) => one.path === path);
  if (found === undefined) throw new Error(`there is no ${path}`);
  return found;
}

async function links(): Promise<void> {
  for (const { path, lines } of pages) {
    for (const { line, target } of linksOf({ path, lines })) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file = "", anchor] = target.split("#");
      const url = new URL(file === "" ? path : file, `file:///${path}`);
      const to = decodeURI(url.pathname.slice(1)).replace(/\/$/, "");
      if (!await exists(to)) faults.push(`${path}:${line}: there is no ${to}`);
      else if (anchor !== undefined && to.endsWith(".md") && !anchorsOf(page(to)).has(anchor)) {
        faults.push(`${path}:${line}: ${to} has no heading #${anchor}`);
      }
    }
  }
}

/**
 * The map of the code names files that are there, whole or from some folder on, and the file of a SQL
 * function.
 */
async function files(): Promise<void> {
  const known = await filesBelow("sql", "src", "tests", "bench", "examples", "docs", "web", "ops");
  for (const path of ["ARCHITECTURE.md", "CONTRIBUTING.md"]) {
    const text = await Deno.readTextFile(path);
    for (const [, name = ""] of text.matchAll(/`([a-z\d_./-]+\.(?:ts|sql|json|md))`/g)) {
      const isThere = known.some((one) => `/${one}`.endsWith(`/${name}`)) || await exists(name);
      if (!isThere) faults.push(`${path} names ${name}, which is not there`);
    }
    for (const [, name, file = ""] of text.matchAll(/`hark\.(\w+)` in `([^`]+\.sql)`/g)) {
      const isThere = await exists(file) &&
        (await Deno.readTextFile(file)).includes(`function hark.${name}(`);
      if (!isThere) faults.push(`${path}: the function hark.${name} is not in ${file}`);
    }
  }
}

/** Every page below docs/ can be found from its index. */
function index(): void {
  const listed = new Set(linksOf(page("docs/README.md")).map(({ target }) => `docs/${target}`));
  for (const { path } of pages) {
    if (path.startsWith("docs/") && path !== "docs/README.md" && !listed.has(path)) {
      faults.push(`docs/README.md does not name ${path}`);
    }
  }
}

const isOptions = /(Options|Filter|Choice|Definition|ChannelStart|NewNotification)$/;

/** A table below a heading that names the interface has a row for each option, with its default. */
function options(all: ReadonlyMap<string, Declaration>): void {
  const path = "docs/reference/options.md";
  const rows = new Map<string, string>();
  let heading = "";
  for (const line of page(path).lines) {
    if (line.startsWith("#")) heading = line;
    const name = /^\| `([\w.]+)`/.exec(line)?.[1];
    const about = heading.match(/`(\w+)`/g)?.map((one) => one.slice(1, -1)) ?? [];
    if (name !== undefined) about.forEach((one) => rows.set(`${one}.${name}`, line));
  }
  const known = new Set<string>();
  for (const [name, declaration] of all) {
    const { kind } = declaration;
    if (kind !== "interface" || !isOptions.test(name) || name === "HarkErrorOptions") continue;
    for (const { name: option, jsDoc } of membersOf(declaration)) {
      known.add(`${name}.${option}`);
      const row = rows.get(`${name}.${option}`);
      if (row === undefined) {
        faults.push(`${path} has no row for ${name}.${option}`);
        continue;
      }
      const value = defaultOf(jsDoc);
      if (value !== undefined && !bare(row).includes(bare(value))) {
        faults.push(`${path}: the row of ${name}.${option} does not say its default, ${value}`);
      }
    }
  }
  const { lines } = page(path);
  try {
    const wanted = withOptionTables(lines, all);
    const differs = lines.findIndex((line, i) => line !== wanted[i]);
    if (differs >= 0) {
      faults.push(`${path}:${differs + 1}: not as it is now; run deno task screens`);
    }
  } catch (error) {
    faults.push((error as Error).message);
  }
  for (const row of rows.keys()) {
    if (!known.has(row)) faults.push(`${path} has a row for ${row}, which is no option`);
  }
}

/** Without marks, so that 10,000 is 10000. */
function bare(text: string): string {
  return text.replaceAll(/(?<=\d),(?=\d)|[{}"`[\] ]/g, "");
}

function commands(): void {
  const path = "docs/reference/cli.md";
  const shown = new Set(blocksOf(page(path)).map(({ note }) => note));
  for (const name of commandNames()) {
    if (!shown.has(`help: ${name}`)) faults.push(`${path} does not show hark ${name} --help`);
  }
}

async function helpPages(): Promise<void> {
  for (const one of pages) {
    for (const block of blocksOf(one)) {
      const text = await generated(one, block, undefined);
      if (text !== undefined && text !== block.text) {
        faults.push(`${one.path}:${block.line}: not as it is now; run deno task screens`);
      }
    }
  }
}

function errors(all: ReadonlyMap<string, Declaration>): void {
  const path = "docs/reference/errors.md";
  const text = page(path).lines.join("\n");
  for (const { value } of all.get("HarkErrorCode")!.def.tsType!.value) {
    if (!text.includes(`| \`${value.string}\``)) faults.push(`${path} has no ${value.string}`);
  }
}

const all = await symbols();
await links();
await files();
index();
options(all);
commands();
await helpPages();
errors(all);
const words = page("README.md").lines.join("\n").split(/\s+/).length;
if (words > longestReadme) faults.push(`README.md has ${words} words, more than ${longestReadme}`);
for (const fault of faults) console.log(fault);
if (faults.length > 0) Deno.exit(1);
