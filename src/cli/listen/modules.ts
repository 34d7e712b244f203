/**
 * Finds consumers in modules.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { checkConsumer, Consumer } from "../../consume/consumer.ts";
import type { ConsumerOptions } from "../../consume/options.ts";
import type { Queryable } from "../../database/queryable.ts";
import { HarkError } from "../../errors.ts";

const logger = getLogger(["hark", "cli"]);

/** A consumer of a module, ready to run. */
export interface Found {
  /** Its id. */
  readonly id: string;
  /** Its channels. */
  readonly channels: readonly string[];
  /** The module, as a URL. */
  readonly module: string;
  /** The consumer. */
  readonly consumer: Consumer;
}

type ConsumerClass = new (db: Queryable) => Consumer;

/** If `remedy` is left out, the message ends with one. */
function noConsumer(message: string, remedy?: string, cause?: unknown): HarkError {
  const options = remedy === undefined ? { cause } : { remedy, cause };
  return new HarkError("NO_CONSUMER", message, options);
}

/**
 * Imports modules and makes their consumers on `db`, which need not be connected yet.
 *
 * @param places Paths of files or folders relative to the current folder, or URLs.
 * @throws {HarkError} `NO_CONSUMER` if a module is missing, cannot be imported or has no consumer;
 * `CONFLICT` if two consumers have the same id.
 */
export async function findConsumers(places: readonly string[], db: Queryable): Promise<Found[]> {
  const found = new Map<string, Found>();
  const seen = new Set<unknown>();
  for (const place of places) {
    const { modules, folder } = await modulesAt(place);
    let here = 0;
    for (const url of modules) {
      const exported = consumersOf(await load(url, place), url);
      here += exported.length;
      if (exported.length === 0 && !folder) {
        throw noConsumer(
          `${place} exports no consumer`,
          "Export a class that extends Consumer, or { id, channels, handle }.",
        );
      }
      for (const given of exported) {
        if (seen.has(given)) continue; // exported under two names, or by two modules
        seen.add(given);
        const one = make(given, url, db);
        const other = found.get(one.id);
        if (other !== undefined) {
          throw new HarkError(
            "CONFLICT",
            `two consumers have the id "${one.id}": in ${shown(other.module)} and in ${shown(url)}`,
            { remedy: "A position is stored by id. Rename one of them." },
          );
        }
        found.set(one.id, one);
      }
    }
    if (here === 0) {
      throw noConsumer(
        `no module in the folder ${place} exports a consumer`,
        "Export classes that extend Consumer, or { id, channels, handle }.",
      );
    }
  }
  return [...found.values()];
}

/** Picks consumers by id. @throws {HarkError} `NO_CONSUMER` for an unknown id. */
export function select(
  found: readonly Found[],
  wanted: readonly string[] | undefined,
  unwanted: readonly string[] | undefined,
): Found[] {
  const known = found.map(({ id }) => id);
  for (const id of [...wanted ?? [], ...unwanted ?? []]) {
    if (known.includes(id)) continue;
    throw noConsumer(`there is no consumer "${id}"`, `There are: ${known.join(", ")}.`);
  }
  const selected = found.filter(({ id }) =>
    (wanted === undefined || wanted.includes(id)) && !unwanted?.includes(id)
  );
  if (selected.length === 0) {
    throw noConsumer("every consumer is excluded", `There are: ${known.join(", ")}.`);
  }
  return selected;
}

/** The modules of a path or URL: the file itself, or the modules in the folder. */
async function modulesAt(place: string): Promise<{ modules: string[]; folder: boolean }> {
  if (/^[a-z][a-z0-9+.-]+:/i.test(place) && !place.startsWith("file:")) {
    return { modules: [place], folder: false };
  }
  const path = place.startsWith("file:") ? fileURLToPath(place) : resolve(place);
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

function isModule(name: string): boolean {
  return /\.m?[tj]s$/.test(name) && !/([._](test|spec|bench)|\.d)\.m?[tj]s$|^\./.test(name);
}

async function load(url: string, place: string): Promise<Record<string, unknown>> {
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

/** The consumers among the exports of a module and in exported arrays. */
function consumersOf(
  module: Record<string, unknown>,
  url: string,
): (ConsumerClass | ConsumerOptions)[] {
  const found: (ConsumerClass | ConsumerOptions)[] = [];
  for (const [name, exported] of Object.entries(module)) {
    for (const value of Array.isArray(exported) ? exported : [exported]) {
      if (isClass(value) || isOptions(value)) found.push(value);
      else if (isAlmost(value)) {
        throw noConsumer(
          `export "${name}" in ${
            shown(url)
          } has an id and channels but no function "handle" or "handleBatch"`,
          `It has: ${Object.keys(value).join(", ")}. Correct the name, or do not export it.`,
        );
      }
    }
  }
  return found;
}

/** Whether it was meant to be a consumer. Without an error, such an export would never run. */
function isAlmost(value: unknown): value is object {
  return value !== null && typeof value === "object" && "id" in value && "channels" in value &&
    typeof (value as { run?: unknown }).run !== "function";
}

/** By shape rather than instanceof: the module may have imported another copy of this package. */
function isClass(value: unknown): value is ConsumerClass {
  if (typeof value !== "function") return false;
  const prototype: unknown = value.prototype;
  return Object.getPrototypeOf(value) !== Function.prototype && // not Consumer itself
    prototype !== null && typeof prototype === "object" &&
    ["run", "drain", "stop"].every((name) =>
      typeof (prototype as Record<string, unknown>)[name] === "function"
    );
}

function isOptions(value: unknown): value is ConsumerOptions {
  return value !== null && typeof value === "object" &&
    ["handle", "handleBatch"].some((name) =>
      typeof (value as Record<string, unknown>)[name] === "function"
    ) &&
    // An instance is bound to a connection of its own module.
    typeof (value as { run?: unknown }).run !== "function";
}

function make(given: ConsumerClass | ConsumerOptions, url: string, db: Queryable): Found {
  const name = typeof given === "function" ? `class ${given.name}` : `consumer "${given.id ?? ""}"`;
  let consumer: Consumer;
  try {
    consumer = typeof given === "function" ? new given(db) : new Consumer(db, given);
  } catch (error) {
    throw noConsumer(`${name} in ${shown(url)}: ${(error as Error).message}`, undefined, error);
  }
  const { id, channels } = consumer;
  if (typeof id !== "string" || id === "") {
    throw noConsumer(
      `${name} in ${shown(url)} has no id`,
      "Give it one: its position is stored under that id.",
    );
  }
  if (channels === undefined || channels.length === 0) {
    throw noConsumer(`"${id}" in ${shown(url)} has no channels`, "Name at least one.");
  }
  try {
    checkConsumer(consumer);
  } catch (error) {
    throw noConsumer(`${name} in ${shown(url)}: ${(error as Error).message}`, undefined, error);
  }
  return {
    id,
    channels: [channels].flat().map((channel) =>
      typeof channel === "string" ? channel : channel.name
    ),
    module: url,
    consumer,
  };
}

/** A module as a person would name it. */
function shown(url: string): string {
  return url.startsWith("file:") ? fileURLToPath(url) : url;
}
