/**
 * Runs consumers in one process, in one thread or several: finds them, connects, runs and stops them.
 *
 * @module
 */

import { connect, type Database } from "../../database/database.ts";
import { retention } from "../../operate/retention.ts";
import { migrate, requireSchema } from "../../schema/migrate.ts";
import type { Answer } from "../args/command.ts";
import { givenUrl } from "../database.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "../exit_codes.ts";
import { configureLogs } from "../print/log_lines.ts";
import { refuse } from "../args/options.ts";
import { printError } from "../print/output.ts";
import { nothingIsRemoved } from "../retention.ts";
import { leftRunning, type OwnServer, ownServer } from "../server.ts";
import { stopping } from "../process/signals.ts";
import { named } from "../print/text.ts";
import { deferredDatabase } from "./deferred_database.ts";
import { drain } from "./drain.ts";
import { list } from "./listed.ts";
import type { Found } from "./modules.ts";
import { Probes } from "./probes.ts";
import { runAll } from "./run_all.ts";
import { consumersOf } from "./selected.ts";
import { overridesOf, type Settings } from "./settings.ts";
import { skipUnread } from "./skip_unread.ts";
import { turnOnTelemetry } from "./telemetry.ts";
import type { Known, Work } from "./thread_messages.ts";
import { Threads } from "./threads.ts";
import { printFailure, welcome } from "./welcome.ts";
import { runWatched } from "./watched.ts";

/** The options of `hark listen`. */
export interface ListenOptions {
  /** Modules: files, folders, URLs. */
  readonly modules: readonly string[];
  /** What can be set from outside. */
  readonly settings: Settings;
  /** Whether to print the consumers that would run, and end. */
  readonly list: boolean;
  /** Whether to handle what is there, and end. */
  readonly drain: boolean;
  /** Whether to start again when a module has changed. */
  readonly watch: boolean;
  /** Whether to install or upgrade the schema first. */
  readonly install: boolean;
  /** `--database-url`. */
  readonly databaseUrl?: string | undefined;
  /** Whether to write JSON. */
  readonly json: boolean;
}

/** Where consumers are looked for if no module is named. */
const usualFolder = "consumers/";

/** Runs `hark listen`; gives the exit code, or what it was asked for. */
export async function runConsumers(o: ListenOptions): Promise<Answer | number> {
  const { settings } = o;
  await using probes = await Probes.start(o.list || o.drain ? undefined : settings.metrics.value);
  const work = workOf(await modulesOf(o), settings);
  await configureLogs(work, "info");
  await turnOnTelemetry();
  const url = givenUrl(o);
  if (work.modules.length === 0 && url !== undefined && !o.list) {
    refuse(
      `there is no module and no folder ${usualFolder} here, and the sample consumer is not ` +
        "registered in a database of yours",
      `Put modules into ${usualFolder}, or name one: hark listen billing.ts. To only watch ` +
        "notifications: hark tail.",
    );
  }
  if (o.watch) {
    if (work.modules.length === 0) {
      refuse("there is no module to watch", `Name one, or put modules into ${usualFolder}.`);
    }
    return await serve(o, work, url, [], probes, (db, to, signal, own) => {
      const first = async (found: readonly Known[]) => {
        if (settings.skipUnread.value) await skipUnread(db, found);
        await welcome(found, own);
      };
      return runWatched(work, settings.workers.value, db, to, signal, first, probes);
    });
  }
  if (settings.workers.value > 1 && !o.list && !o.drain) {
    using threads = await Threads.begin(work, settings.workers.value);
    probes?.follow(threads);
    return await serve(o, work, url, threads.found, probes, threads.run.bind(threads));
  }
  const deferred = deferredDatabase();
  const selected = await consumersOf(work, deferred.db);
  if (o.list) return list(selected, o, url);
  return await serve(o, work, url, selected, probes, (db, _url, signal) => {
    deferred.become(db);
    return o.drain ? drain(selected, signal) : runHere(selected, signal);
  });
}

/** What to run: of modules and settings, without where each value comes from. */
function workOf(modules: readonly string[], settings: Settings): Work {
  return {
    modules,
    consumers: settings.consumers.value,
    excluded: settings.excluded.value,
    channels: settings.channels.value,
    overrides: overridesOf(settings),
    maxReconnectDelay: settings.maxReconnectDelay.value,
    noListen: settings.noListen.value,
    measures: settings.metrics.value !== undefined,
    logLevel: settings.logLevel.value,
    logFormat: settings.logFormat.value,
  };
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

/** Runs consumers on a connected database until the signal. */
type Run = (
  db: Database,
  url: string,
  signal: AbortSignal,
  own: OwnServer | undefined,
) => Promise<Answer | number>;

/** Prepares a server, a connection and the schema, then runs. */
async function serve(
  o: ListenOptions,
  work: Work,
  url: string | undefined,
  found: readonly Known[],
  probes: Probes | undefined,
  run: Run,
): Promise<Answer | number> {
  let inUse: OwnServer | undefined = undefined;
  using stop = stopping(() => leftRunning(inUse));
  // Disposed of last: consumers have stopped and their connections are closed by then.
  await using own = url === undefined ? await ownServer("no DATABASE_URL: ") : undefined;
  inUse = own;
  const server = own?.server;
  if (stop.signal.aborted) return exitCodes.ok;
  const to = url ?? server!.url;
  const { maxReconnectDelay, noListen } = work;
  await using db = await connect(to, {
    applicationName: "hark listen",
    maxReconnectDelay,
    ...noListen ? { listen: false } : {},
  });
  if (server !== undefined || o.install) await migrate(db);
  else await requireSchema(db);
  await probes?.tell();
  if (o.settings.skipUnread.value) await skipUnread(db, found);
  if (!o.drain) {
    if (!o.watch) await welcome(found, own);
    if ((await retention(db)).length === 0) await printError(nothingIsRemoved);
    await printError("Ctrl-C ends it.");
  }
  return await run(db, to, stop.signal, own);
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
