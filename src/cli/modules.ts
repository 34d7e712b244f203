/**
 * Finds and imports modules that a command line names.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { HarkError } from "../errors.ts";

const logger = getLogger(["hark", "cli"]);

/** If `remedy` is left out, the message ends with one. */
export function noConsumer(message: string, remedy?: string, cause?: unknown): HarkError {
  const options = remedy === undefined ? { cause } : { remedy, cause };
  return new HarkError("NO_CONSUMER", message, options);
}

/** The modules of a path or URL: the file itself, or the modules in the folder. */
export async function modulesAt(place: string): Promise<{ modules: string[]; folder: boolean }> {
  if (/^[a-z][a-z0-9+.-]+:/i.test(place) && !place.startsWith("file:")) {
    return { modules: [place], folder: false };
  }
  const path = place.startsWith("file:") ? pathOf(place) : resolve(place);
  if (path === undefined) {
    throw noConsumer(`${place} is no file here`, "Give a path, or file:// and an absolute path.");
  }
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw noConsumer(
        `there is no module ${place}`,
        "Give a file or a folder, relative to the current folder, or a URL.",
        error,
      );
    }
    throw noConsumer(
      `${place} cannot be read: ${(error as Error).message}`,
      `Give the right to read it: --allow-read=${place}`,
      error,
    );
  }
  if (!info.isDirectory) return { modules: [pathToFileURL(path).href], folder: false };
  const names: string[] = [];
  for await (const entry of Deno.readDir(path)) {
    if (!entry.isDirectory && isModule(entry.name)) names.push(entry.name);
  }
  if (names.length === 0) {
    throw noConsumer(
      `there is no module in the folder ${place}`,
      "Put *.ts or *.js files into it, or name a module.",
    );
  }
  return { modules: names.sort().map((n) => pathToFileURL(join(path, n)).href), folder: true };
}

/** The path of a `file:` URL; undefined if it names another machine, or no path, such as with `%2f`. */
export function pathOf(url: string): string | undefined {
  try {
    return fileURLToPath(url);
  } catch {
    return undefined;
  }
}

function isModule(name: string): boolean {
  return /\.m?[tj]s$/.test(name) && !/([._](test|spec|bench)|\.d)\.m?[tj]s$|^\./.test(name);
}

/** Imports a module. @throws {HarkError} `NO_CONSUMER` if that fails, with the reason. */
export async function load(url: string, place: string): Promise<Record<string, unknown>> {
  try {
    return await import(url);
  } catch (error) {
    logger.debug("{stack}", { stack: error instanceof Error ? error.stack : error });
    const what = place.endsWith(url) || url.endsWith(place) ? place : shown(url);
    throw noConsumer(
      `${what} cannot be imported: ${reason(error)}`,
      `Correct it. For more: deno check ${what}, or --log-level debug.`,
      error,
    );
  }
}

/** The reason that Deno gives, with the place on the same line. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // deno-lint-ignore no-control-regex -- colours
  const plain = error.message.replaceAll(/\x1b\[[0-9;]*m/g, "").trim().replace(/\.$/, "");
  return `${error.name}: ${plain.replace(/\.?\n\s+at (\S+)$/, " ($1)")}`;
}

/** A module as a person would name it. */
export function shown(url: string): string {
  return url.startsWith("file:") ? fileURLToPath(url) : url;
}
