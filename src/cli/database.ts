/**
 * Finds the database that a command works on, and connects to it.
 *
 * @module
 */

import { refuse } from "./args/options.ts";
import { connect, type Database } from "../database/database.ts";
import { urlFromVariables } from "../database/environment.ts";
import { findEmbedded } from "../embedded/record.ts";
import { HarkError } from "../errors.ts";
import { configureLogs } from "./print/log_lines.ts";
import type { DatabaseOptions } from "./args/options.ts";
import { surroundings } from "./process/surroundings.ts";

/** The URL from `--database-url`, or else from the environment: DATABASE_URL, PGHOST and the like. */
export function givenUrl(
  { databaseUrl }: Pick<DatabaseOptions, "databaseUrl">,
): string | undefined {
  if (databaseUrl === "") {
    refuse(
      "--database-url is empty",
      "Give postgres://user:password@host:port/database, or leave it out.",
    );
  }
  const { variable } = surroundings();
  return databaseUrl ?? (variable("DATABASE_URL") || urlFromVariables(variable));
}

/** The given URL, or else the URL of the server that another process runs in this folder. */
async function findUrl(options: DatabaseOptions): Promise<string> {
  const url = givenUrl(options) ?? (await mayLook() ? await findEmbedded() : undefined);
  if (url !== undefined) return url;
  throw new HarkError("UNREACHABLE", "no database is set, and no server runs in this folder", {
    remedy: "Set DATABASE_URL, or PGHOST, PGDATABASE and the like, or give --database-url. For a " +
      "server of this folder, run `hark dev` or `hark listen` in another terminal.",
  });
}

/** Whether the folder may be read. Otherwise Deno would ask for that right. */
async function mayLook(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "read", path: ".hark/server.json" });
  return state === "granted";
}

/**
 * Sets up logging and connects to the database that the options name.
 *
 * @param replica How the command works with a replica if one is given: see DatabaseCommand.
 */
export async function openDatabase(
  options: DatabaseOptions,
  command: string,
  replica?: "beside" | "alone",
): Promise<Database> {
  await configureLogs(options);
  const applicationName = `hark ${command}`;
  const there = replica === undefined
    ? undefined
    : options.replica ?? (surroundings().variable("HARK_REPLICA_URL") || undefined);
  if (there !== undefined && replica === "alone") {
    return await connect(there, { applicationName, listen: false });
  }
  return await connect(await findUrl(options), { applicationName, replica: there });
}
