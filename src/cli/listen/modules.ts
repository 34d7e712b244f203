/**
 * Finds consumers in modules.
 *
 * @module
 */

import { checkConsumer, Consumer, overrideOptions } from "../../consume/consumer.ts";
import type { ConsumerOptions } from "../../consume/options.ts";
import type { Queryable } from "../../database/queryable.ts";
import { HarkError } from "../../errors.ts";
import { load, modulesAt, noConsumer, shown } from "../modules.ts";
import type { Overrides } from "./settings.ts";

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

/**
 * Imports modules and makes their consumers on `db`, which need not be connected yet.
 *
 * @param places Paths of files or folders relative to the current folder, or URLs.
 * @param overrides Options that count more than the code of a consumer.
 * @throws {HarkError} `NO_CONSUMER` if a module is missing, cannot be imported or has no consumer;
 * `CONFLICT` if two consumers have the same id.
 */
export async function findConsumers(
  places: readonly string[],
  db: Queryable,
  overrides: Overrides,
): Promise<Found[]> {
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
        const one = make(given, url, db, overrides);
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

function make(
  given: ConsumerClass | ConsumerOptions,
  url: string,
  db: Queryable,
  overrides: Overrides,
): Found {
  const name = typeof given === "function" ? `class ${given.name}` : `consumer "${given.id ?? ""}"`;
  const unfit = (error: unknown) => {
    const { message } = error as Error;
    const place = message.includes(name) ? shown(url) : `${name} in ${shown(url)}`;
    return noConsumer(`${place}: ${message}`, undefined, error);
  };
  let consumer: Consumer;
  try {
    consumer = typeof given === "function" ? new given(db) : new Consumer(db, given);
  } catch (error) {
    throw unfit(error);
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
  overrideOptions(consumer, overrides);
  try {
    checkConsumer(consumer);
  } catch (error) {
    throw unfit(error);
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
