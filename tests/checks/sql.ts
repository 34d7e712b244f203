/**
 * What has to hold of the files in sql/, read as text:
 *
 * - the program carries them as they are (`deno task bundle`), and loads them only to install;
 * - they are ASCII, so that they install in a database of any encoding;
 * - a literal with a backslash is written E'...', as standard_conforming_strings may be off for its caller;
 * - nothing calls md5(), which a FIPS server does not have;
 * - each function is defined once, is called by something, and stands in one list of rights;
 * - a released version is never changed: a change of the SQL raises `schemaVersion`.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { generate, generateRights } from "../../sql/generate.ts";
import { script } from "../../src/schema/script.ts";
import { schemaVersion } from "../../src/schema/version.ts";
import { filesBelow } from "./files.ts";

const root = new URL("../../", import.meta.url);

/** Returns a sentence for each fault; none when all is well. */
export async function checkSql(): Promise<string[]> {
  const generated = await generate();
  const files: Record<string, string> = JSON.parse(generated);
  return [
    ...await notBundled(generated),
    ...await loadedTooEarly(),
    ...notAscii(files),
    ...plainBackslashes(files),
    ...digests(files),
    ...definitions(files),
    ...await unused(files),
    ...rights(files),
    ...await changedRelease(files),
  ];
}

async function notBundled(generated: string): Promise<string[]> {
  const expected = {
    "src/schema/sql.json": generated,
    "src/database/rights.json": await generateRights(),
  };
  const stale = await Promise.all(
    Object.entries(expected).map(async ([path, text]) =>
      await Deno.readTextFile(new URL(path, root)) === text
        ? []
        : [`${path} is stale: run \`deno task bundle\``]
    ),
  );
  return stale.flat();
}

/** A static import would load all SQL into every program that only publishes or consumes. */
async function loadedTooEarly(): Promise<string[]> {
  const texts = await textsBelow("src");
  return texts.flatMap((text) =>
    [...text.matchAll(/^.*\bsql\.json".*$/gm)].map(([line]) => line)
      .filter((line) => !/await import\("\.\/sql\.json"/.test(line))
      .map((line) => `src/schema/sql.json is only to be loaded by what installs: ${line.trim()}`)
  );
}

function notAscii(files: Readonly<Record<string, string>>): string[] {
  return Object.entries(files).flatMap(([path, text]) =>
    text.split("\n").flatMap((line, index) => {
      // deno-lint-ignore no-control-regex -- that is the question
      const found = /[^\x00-\x7f]/u.exec(line);
      return found === null ? [] : [`sql/${path}:${index + 1} holds "${found[0]}": ASCII only`];
    })
  );
}

function plainBackslashes(files: Readonly<Record<string, string>>): string[] {
  return Object.entries(files).flatMap(([path, text]) =>
    // With what continues a literal on the next line.
    [...text.replaceAll(/--.*$/gm, "").matchAll(/(E?)('(?:[^']|'')*'(?:\s*\n\s*'(?:[^']|'')*')*)/g)]
      .filter(([, escaped, literal]) => escaped === "" && literal!.includes("\\"))
      .map(([literal]) => `sql/${path} holds ${literal.slice(0, 60)}: write it as E'...'`)
  );
}

function digests(files: Readonly<Record<string, string>>): string[] {
  return Object.entries(files).flatMap(([path, text]) =>
    /\bmd5\s*\(/i.test(text.replaceAll(/--.*$/gm, ""))
      ? [`sql/${path} calls md5(), which fails on a FIPS server: use sha256() or hashtext()`]
      : []
  );
}

/** The functions that a file defines, by name, in order. */
function definedIn(text: string): string[] {
  return [...text.matchAll(/^create (?:or replace )?function hark\.(\w+)/gm)].map(([, name]) =>
    name!
  );
}

function definitions(files: Readonly<Record<string, string>>): string[] {
  const where = new Map<string, string>();
  const faults: string[] = [];
  for (const [path, text] of Object.entries(files)) {
    for (const name of definedIn(text)) {
      const first = where.get(name);
      if (first === undefined) where.set(name, path);
      else faults.push(`hark.${name} is defined in sql/${first} and again in sql/${path}`);
    }
  }
  return faults;
}

async function unused(files: Readonly<Record<string, string>>): Promise<string[]> {
  const texts = Object.entries(files).flatMap(([, text]) =>
    text.split(/^(?=create (?:or replace )?function)/m)
  );
  // What is documented for people who use SQL counts too.
  const outside = [
    await Deno.readTextFile(new URL("README.md", root)),
    ...await textsBelow("src", "examples", "docs"),
  ];
  const names = Object.values(files).flatMap(definedIn);
  return names.filter((name) => {
    const call = new RegExp(`\\bhark\\.${name}\\b|"${name}"`);
    const own = new RegExp(`^create (?:or replace )?function hark\\.${name}\\b`);
    const isCalled = (text: string) =>
      call.test(text.replaceAll(/^\s*--.*$|^comment on .*$/gm, ""));
    return !texts.some((text) => !own.test(text) && isCalled(text)) &&
      !outside.some((text) => call.test(text));
  }).map((name) =>
    `hark.${name} is called by nothing in src/, sql/ or the documentation: delete it`
  );
}

async function textsBelow(...folders: readonly string[]): Promise<string[]> {
  const files = (await filesBelow(...folders)).filter((path) => /\.(?:ts|md)$/.test(path));
  return await Promise.all(files.map((path) => Deno.readTextFile(new URL(path, root))));
}

function rights(files: Readonly<Record<string, string>>): string[] {
  const text = files["rights.sql"] ?? "";
  const lists = text.slice(text.indexOf("values"), text.indexOf("$$;")).replaceAll(/--.*$/gm, "");
  const listed = [...lists.matchAll(/'(\w+)'/g)].map(([, name]) => name!);
  const defined = Object.values(files).flatMap(definedIn);
  const twice = listed.filter((name, index) => listed.indexOf(name) !== index);
  return [
    ...twice.map((name) => `hark.${name} stands in two lists of sql/rights.sql`),
    ...defined.filter((name) => !listed.includes(name))
      .map((name) => `hark.${name} stands in no list of sql/rights.sql`),
    ...listed.filter((name) => !defined.includes(name))
      .map((name) => `sql/rights.sql lists hark.${name}, which is not defined`),
  ];
}

async function changedRelease(files: Readonly<Record<string, string>>): Promise<string[]> {
  const url = new URL(`tests/schema/released/${schemaVersion}.sql`, root);
  const released = await Deno.readTextFile(url).catch(() => undefined);
  if (released === undefined) return [];
  // All but the digest, which names the state of the files.
  const plain = (text: string) => text.replaceAll(/'[0-9a-f]{32}'/g, "''");
  if (plain(released) === plain(script(files, "0".repeat(32)))) return [];
  return [
    `sql/ differs from ${
      fileURLToPath(url).split("/").slice(-4).join("/")
    }: raise schemaVersion in ` +
    "src/schema/version.ts to the coming release, and write its sql/upgrades file if tables change",
  ];
}
