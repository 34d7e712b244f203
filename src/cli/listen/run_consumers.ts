/**
 * Runs consumers in one process, in one thread or several: finds them, connects, runs and stops them.
 *
 * @module
 */

import { connect, type Database } from "../../database/database.ts";
import { retention } from "../../operate/retention.ts";
import { migrate, requireSchema } from "../../schema/migrate.ts";
import { givenUrl } from "../database.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "../exit_codes.ts";
import { configureLogs } from "../log.ts";
import type { DatabaseOptions } from "../options.ts";
import { refuse } from "../options.ts";
import { print, printError, printJson } from "../output.ts";
import { nothingIsRemoved } from "../retention.ts";
import { leftRunning, ownCommand, type OwnServer, ownServer } from "../server.ts";
import { stopping } from "../signals.ts";
import { paintError, visible, visibleLines } from "../style.ts";
import { table } from "../table.ts";
import { named, shellWord } from "../text.ts";
import { deferredDatabase } from "./deferred_database.ts";
import { findConsumers, type Found, select } from "./modules.ts";
import { runAll } from "./run_all.ts";
import { sampleConsumer } from "./sample.ts";
import type { Known, Work } from "./thread_messages.ts";
import { Threads } from "./threads.ts";

/** The options of `hark listen`. */
export interface ListenOptions extends Work, DatabaseOptions {
  /** How many threads run the consumers. */
  readonly workers: number;
  /** Whether to print the consumers that would run, and end. */
  readonly list: boolean;
  /** Whether to handle what is there, and end. */
  readonly drain: boolean;
  /** Whether to install or upgrade the schema first. */
  readonly install: boolean;
  /** Whether to write JSON. */
  readonly json: boolean;
}

/** Where consumers are looked for if no module is named. */
const usualFolder = "consumers/";

/** Runs `hark listen`; gives the exit code. */
export async function runConsumers(given: ListenOptions): Promise<number> {
  await configureLogs(given, "info");
  const url = givenUrl(given);
  const o = { ...given, modules: await modulesOf(given) };
  if (o.modules.length === 0 && url !== undefined && !o.list) {
    refuse(
      `there is no module and no folder ${usualFolder} here, and the sample consumer is not ` +
        "registered in a database of yours",
      `Put modules into ${usualFolder}, or name one: hark listen billing.ts. To only watch ` +
        "notifications: hark tail.",
    );
  }
  if (o.workers > 1 && !o.list) {
    using threads = await Threads.begin(o, o.workers);
    return await serve(o, url, threads.found, threads.run.bind(threads));
  }
  const deferred = deferredDatabase();
  const found = o.modules.length === 0
    ? [sampleConsumer(deferred.db)]
    : await findConsumers(o.modules, deferred.db);
  const selected = select(found, o.consumers, o.excluded);
  if (o.list) return await list(selected, o.json);
  return await serve(o, url, selected, (db, _url, signal) => {
    deferred.become(db);
    return o.drain ? drain(selected, signal, o.json) : runHere(selected, signal);
  });
}

/** The modules that are named, or else the usual folder, if there is one. */
async function modulesOf({ modules }: ListenOptions): Promise<readonly string[]> {
  if (modules.length > 0 || !await isFolder(usualFolder)) return modules;
  await printError(`taking the consumers of ${usualFolder}, as no module is named`);
  return [usualFolder];
}

async function isFolder(path: string): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "read", path });
  if (state !== "granted") return false;
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Runs consumers on a connected database until the signal; gives the exit code. */
type Run = (db: Database, url: string, signal: AbortSignal) => Promise<number>;

/** Prepares a server, a connection and the schema, then runs; gives the exit code. */
async function serve(
  o: ListenOptions,
  url: string | undefined,
  found: readonly Known[],
  run: Run,
): Promise<number> {
  let inUse: OwnServer | undefined = undefined;
  using stop = stopping(() => leftRunning(inUse));
  // Disposed of last: consumers have stopped and their connections are closed by then.
  await using own = url === undefined ? await ownServer("no DATABASE_URL: ") : undefined;
  inUse = own;
  const server = own?.server;
  if (stop.signal.aborted) return exitCodes.ok;
  const to = url ?? server!.url;
  await using db = await connect(to, { applicationName: "hark listen" });
  if (server !== undefined || o.install) await migrate(db);
  else await requireSchema(db);
  if (!o.drain) {
    await welcome(found, own);
    if ((await retention(db)).length === 0) await printError(nothingIsRemoved);
    await printError("Ctrl-C ends it.");
  }
  return await run(db, to, stop.signal);
}

async function list(found: readonly Found[], json: boolean): Promise<number> {
  const rows = found.map(({ id, channels, module }) => ({ id, channels, module }));
  if (json) await printJson(rows);
  else {
    await print(table(
      "consumer, channels, module",
      rows.map((row) => [row.id, row.channels.join(", "), row.module]),
    ));
  }
  return exitCodes.ok;
}

async function welcome(found: readonly Known[], own: OwnServer | undefined): Promise<void> {
  if (own !== undefined) {
    const { version, port } = own.server;
    await printError(
      `PostgreSQL ${version} runs on port ${port} of 127.0.0.1; its data is in ${own.place}`,
    );
  }
  for (const { id, channels } of found) {
    await printError(
      `${paintError("bold", visible(id))} listens on ${channels.map(visible).join(", ")}`,
    );
  }
  if (own !== undefined) {
    const channel = found[0]?.channels[0] ?? "orders";
    const command = ownCommand(`notify ${shellWord(channel)} '{"id":42}'`);
    await printError(`In a second terminal: ${paintError("bold", command)}`);
  }
}

/** Runs all consumers in this thread. */
async function runHere(found: readonly Found[], signal: AbortSignal): Promise<number> {
  let code: number = exitCodes.ok;
  await runAll(found, signal, async (id, error) => {
    await printFailure(`consumer ${named(id)} ended`, sentenceOf(error));
    code ||= exitCodeOf(error);
  });
  if (code === exitCodes.ok) await printError("stopped; progress is stored");
  return code;
}

async function drain(
  found: readonly Found[],
  signal: AbortSignal,
  json: boolean,
): Promise<number> {
  let code: number = exitCodes.ok;
  const handled = await Promise.all(found.map(async ({ id, consumer }) => {
    try {
      return { consumer: id, handled: await consumer.drain({ signal }) };
    } catch (error) {
      await printFailure(`consumer ${named(id)}`, sentenceOf(error));
      code ||= exitCodeOf(error);
      return { consumer: id, handled: null };
    }
  }));
  if (json) await printJson(handled);
  else {
    await print(table(
      "consumer, handled",
      handled.map((one) => [one.consumer, one.handled ?? { text: "failed", style: "red" }]),
    ));
  }
  return code;
}

/** Writes a failure to standard error. */
export async function printFailure(what: string, sentence: string): Promise<void> {
  await printError(`${paintError("red", "hark:")} ${what}: ${visibleLines(sentence)}`);
}
