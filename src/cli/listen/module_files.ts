/**
 * The files that modules consist of: themselves, and what they import from the disk.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { modulesAt, pathOf } from "../modules.ts";

/** Files by path, with their texts; null for one that is not there. */
export type Files = ReadonlyMap<string, string | null>;

/** `from "x"`, `import "x"` and `import("x")`. A match in a comment only makes one file more. */
const imports = /\b(?:from|import)\s*\(?\s*(["'])((?:(?!\1)[^\n])+)\1/g;

/** Import maps of folders, by path: undefined if neither it nor a folder above has one. */
type Aliases = Map<
  string,
  { readonly base: string; readonly names: Record<string, string> } | undefined
>;

/** Reads all files of modules. Modules that are not on the disk are left out. */
export async function filesOf(places: readonly string[]): Promise<Files> {
  const files = new Map<string, string | null>();
  const aliases: Aliases = new Map();
  const open: string[] = [];
  for (const place of places) open.push(...await modulesOf(place));
  for (let url = open.pop(); url !== undefined; url = open.pop()) {
    const path = fileURLToPath(url);
    if (files.has(path)) continue;
    const text = await readText(path);
    files.set(path, text);
    if (text === null || path.endsWith(".json")) continue;
    for (const [, , specifier] of text.matchAll(imports)) {
      const found = await resolved(specifier!, url, aliases);
      if (found !== undefined) open.push(found);
    }
  }
  return files;
}

/** The modules of a place as URLs; a place that is not there as the file that it may become. */
async function modulesOf(place: string): Promise<string[]> {
  try {
    const { modules } = await modulesAt(place);
    return modules.filter((url) => url.startsWith("file:"));
  } catch {
    // Starting says what is wrong with it. It may be there at the next change.
    return [pathToFileURL(place).href];
  }
}

async function readText(path: string): Promise<string | null> {
  try {
    return await Deno.readTextFile(path);
  } catch {
    return null;
  }
}

/** The URL of a file that a specifier names; undefined for a package, and for another server. */
async function resolved(
  specifier: string,
  from: string,
  aliases: Aliases,
): Promise<string | undefined> {
  if (/^(\.{1,2})?\//.test(specifier) || specifier.startsWith("file:")) {
    return fileUrl(specifier, from);
  }
  if (/^[a-z]+:/.test(specifier)) return undefined;
  const map = await mapOf(dirname(fileURLToPath(from)), aliases);
  for (const [name, target] of Object.entries(map?.names ?? {})) {
    if (!/^\.{1,2}\//.test(target)) continue;
    if (specifier === name) return fileUrl(target, map!.base);
    if (name.endsWith("/") && specifier.startsWith(name)) {
      return fileUrl(target + specifier.slice(name.length), map!.base);
    }
  }
  return undefined;
}

function fileUrl(specifier: string, from: string): string | undefined {
  const url = URL.parse(specifier, from);
  if (url === null || pathOf(url.href) === undefined) return undefined;
  url.search = url.hash = "";
  return url.href;
}

/** The import map of the nearest deno.json at or above a folder. */
async function mapOf(folder: string, aliases: Aliases): Promise<ReturnType<Aliases["get"]>> {
  if (aliases.has(folder)) return aliases.get(folder);
  let map: ReturnType<Aliases["get"]>;
  for (const name of ["deno.json", "deno.jsonc"]) {
    const path = join(folder, name);
    const text = await readText(path);
    if (text === null) continue;
    map = { base: pathToFileURL(path).href, names: importsOf(text) };
    break;
  }
  if (map === undefined && dirname(folder) !== folder) map = await mapOf(dirname(folder), aliases);
  aliases.set(folder, map);
  return map;
}

function importsOf(text: string): Record<string, string> {
  try {
    return JSON.parse(text).imports ?? {};
  } catch {
    return {}; // a deno.jsonc with comments: then files behind an alias are not watched
  }
}
