/**
 * The files that describe a server on disk, so that another process finds it.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { HarkError } from "../errors.ts";
import { type Account, giveTo } from "./account.ts";
import { type Address, answerAt } from "./connect.ts";

/** The data folder used when none is given. */
export const DEFAULT_DATA_DIR = ".hark/data";

/** The files beside a data folder. */
export interface Places {
  /** `server.json`: the running server. */
  readonly record: string;
  /** The lock that is held while a server is started or stopped. */
  readonly turn: string;
  /**
   * The lock that all users of the server share. A process that gets it exclusively is the last
   * user.
   */
  readonly users: string;
}

/**
 * The contents of `server.json`, for a running server. It holds the password, so only its owner can
 * read it.
 */
export interface ServerRecord {
  readonly url: string;
  readonly pid: number;
  readonly port: number;
  readonly dataDir: string;
  readonly version: string;
}

/** The files beside `dataDir`: `.hark/server.json` for `.hark/data`, `x.server.json` for `x`. */
export function placesOf(dataDir: string): Places {
  const folder = dirname(resolve(dataDir));
  const name = basename(resolve(dataDir));
  const prefix = name === "data" ? "" : `${name}.`;
  return {
    record: join(folder, `${prefix}server.json`),
    turn: join(folder, `${prefix}server.lock`),
    users: join(folder, `${prefix}users.lock`),
  };
}

/**
 * Writes the record under another name and renames it, so that a reader sees a complete record or
 * none.
 */
export async function writeRecord(places: Places, record: ServerRecord): Promise<void> {
  const unfinished = `${places.record}.unfinished`;
  await Deno.writeTextFile(unfinished, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  await Deno.rename(unfinished, places.record);
}

/** Removes the record of a server that was stopped. */
export async function removeRecord(places: Places): Promise<void> {
  await Deno.remove(places.record).catch(() => {});
}

/**
 * Reads the password and the last port from a data folder; undefined if the folder is missing or
 * empty.
 */
export async function readAddress(dataDir: string): Promise<Address | undefined> {
  const path = join(dataDir, "hark.json");
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      if (await isEmpty(dataDir)) return undefined;
      throw new HarkError("EMBEDDED", `${dataDir} is not empty and was not made by Hark`, {
        remedy: "Use another folder. To use a server of your own, set DATABASE_URL.",
      });
    }
    throw new HarkError("EMBEDDED", `${path} cannot be read`, {
      cause: error,
      remedy: "Run as the owner of the folder, with --allow-read for it, or remove the folder.",
    });
  }
  const { password, port } = JSON.parse(text) as Address;
  return { password, port };
}

/** Writes the password and the port into a data folder. */
export async function writeAddress(
  account: Account,
  dataDir: string,
  address: Address,
): Promise<void> {
  const path = join(dataDir, "hark.json");
  await Deno.writeTextFile(path, `${JSON.stringify(address)}\n`, { mode: 0o600 });
  await giveTo(account, path);
}

async function isEmpty(folder: string): Promise<boolean> {
  try {
    for await (const _entry of Deno.readDir(folder)) return false;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return true;
}

/**
 * Finds an embedded server that another process has started, through `.hark/server.json`.
 *
 * Returns the server's URL after a login with the recorded password has succeeded. Returns
 * undefined if no server is recorded, or if none answers within 5 s. `dataDir` is the data folder
 * the server was started with, by default `.hark/data`. Rejects with `EMBEDDED` if the record
 * cannot be read.
 *
 * @example
 * ```ts
 * import { findEmbedded } from "@hark/postgres/embedded";
 *
 * console.log(await findEmbedded() ?? "no embedded server is running here");
 * ```
 */
export async function findEmbedded(
  dataDir: string = DEFAULT_DATA_DIR,
): Promise<string | undefined> {
  const { record } = placesOf(dataDir);
  let text: string;
  try {
    text = await Deno.readTextFile(record);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new HarkError("EMBEDDED", `${record} cannot be read`, {
      cause: error,
      remedy: "Run as the user that started the server, with --allow-read for the file.",
    });
  }
  const { url } = JSON.parse(text) as ServerRecord;
  const { port, password } = new URL(url);
  return await answerAt({ port: Number(port), password }) === "ready" ? url : undefined;
}
