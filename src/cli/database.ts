/**
 * Which database a command works on, and the connection to it.
 *
 * @module
 */

import { connect, type Database } from "../database/database.ts";
import { findEmbedded } from "../database/embedded/record.ts";
import { HarkError } from "../errors.ts";
import { configureLogs } from "./log.ts";
import type { DatabaseOptions } from "./options.ts";
import { surroundings } from "./surroundings.ts";

/** The URL that was given, as an option or in the environment. */
export function givenUrl({ databaseUrl }: DatabaseOptions): string | undefined {
  if (databaseUrl === "") {
    throw new HarkError("BAD_OPTION", "--database-url is empty", {
      remedy: "Give postgres://user:password@host:port/database, or leave it out.",
    });
  }
  return databaseUrl ?? (surroundings().variable("DATABASE_URL") || undefined);
}

/** The URL that was given, else that of a server which another process runs in this folder. */
async function findUrl(options: DatabaseOptions): Promise<string> {
  const url = givenUrl(options) ?? (await mayLook() ? await findEmbedded() : undefined);
  if (url !== undefined) return url;
  throw new HarkError("UNREACHABLE", "there is no database", {
    remedy: "Set DATABASE_URL, give --database-url, or run `hark dev` or `hark listen` in this " +
      "folder, in another terminal: they start one.",
  });
}

/** Without the right to read here there is nothing to find, and Deno should not ask for it. */
async function mayLook(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "read", path: ".hark/server.json" });
  return state === "granted";
}

/** Connects to the database that the options mean, with logging set up. */
export async function openDatabase(options: DatabaseOptions, command: string): Promise<Database> {
  await configureLogs(options);
  return await connect(await findUrl(options), { applicationName: `hark ${command}` });
}
