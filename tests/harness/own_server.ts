/**
 * A server for one test, to be stopped, killed and set up as the test needs it.
 *
 * @module
 */

import { type EmbeddedServer, startEmbedded, type StopMode } from "../../src/embedded/mod.ts";
import { join } from "node:path";
import { lock } from "../../src/embedded/locks.ts";
import { until } from "./until.ts";
import { startCopy } from "../../src/embedded/start.ts";
import { type Client, connect, disconnect, once, type Row } from "./connect.ts";
import { PROJECT } from "./files.ts";
import { install } from "./template.ts";

/** What the server has to be like. */
export interface OwnServerOptions {
  /** Settings, for example `{ max_prepared_transactions: "10" }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The PostgreSQL version, such as "16"; the environment's HARK_TEST_PG unless given. */
  readonly version?: string;
  /**
   * Whether Hark is installed in its database. All servers of a run that have it begin as copies of
   * one data folder, those without it as copies of another: so they have two system identifiers.
   *
   * @default {true}
   */
  readonly schema?: boolean;
}

/** A server of the test's own. */
export class OwnServer implements EmbeddedServer {
  readonly #server: EmbeddedServer;
  readonly #clients: Client[] = [];

  /** Takes a running server over. */
  constructor(server: EmbeddedServer) {
    this.#server = server;
  }

  /** Where to connect, as a superuser. */
  get url(): string {
    return this.#server.url;
  }
  /** The port on 127.0.0.1. */
  get port(): number {
    return this.#server.port;
  }
  /** The data folder. */
  get dataDir(): string {
    return this.#server.dataDir;
  }
  /** PostgreSQL's version. */
  get version(): string {
    return this.#server.version;
  }
  /** The main process. */
  get pid(): number | undefined {
    return this.#server.pid;
  }
  /** Starts it again. */
  async start(): Promise<void> {
    let failed: unknown;
    // Another test that looks for a free port may have this one for a moment.
    await until(async () => {
      try {
        await this.#server.start();
      } catch (error) {
        if (/ is taken/.test(String(error))) throw error;
        failed = error;
      }
      return true;
    }, { deadline: 5000, what: "the server to have its port" });
    if (failed !== undefined) throw failed;
  }
  /** Stops it. */
  stop(mode?: StopMode): Promise<void> {
    return this.#server.stop(mode);
  }
  /** Stops it and starts it again on the same port. */
  async restart(mode?: StopMode): Promise<void> {
    await this.stop(mode);
    await this.start();
  }
  /** Kills it as a crash would. */
  kill(): Promise<void> {
    return this.#server.kill();
  }
  /** Opens a connection, which is closed with the server. */
  async client(url: string = this.url): Promise<Client> {
    const client = await connect(url);
    this.#clients.push(client);
    return client;
  }
  /** Runs one statement on a connection of its own. */
  async sql(text: string, values?: unknown[]): Promise<Row[]> {
    const client = await connect(this.url);
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await disconnect(client);
    }
  }
  /** Closes its connections, stops it, and removes its data. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map(disconnect));
    await this.#server[Symbol.asyncDispose]();
  }
}

/** Starts a server: `await using server = await ownServer()`. */
export async function ownServer(options: OwnServerOptions = {}): Promise<OwnServer> {
  const schema = options.schema ?? true;
  const { settings = {} } = options;
  const copyOf = options.version === undefined ? await preparedData(schema) : undefined;
  const server = new OwnServer(
    copyOf === undefined
      ? await startEmbedded({ ephemeral: true, settings, ...versionOf(options.version) })
      : await startCopy(copyOf, { settings, ...versionOf() }),
  );
  try {
    if (schema && copyOf === undefined) await installTidily(server.url);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Installs, and removes what that leaves dead in the catalogs. Otherwise the first session that reads the
 * catalogs removes it. That is written to the WAL and has it flushed, so that a crash takes nothing.
 */
async function installTidily(url: string): Promise<void> {
  await install(url);
  await once(url, "vacuum");
}

function versionOf(asked?: string): { version?: string } {
  const version = asked ?? (Deno.env.get("HARK_TEST_PG") || undefined);
  return version === undefined ? {} : { version };
}

/** Where a run keeps the data folder that its servers begin with. */
function preparedFolder(run: string): string {
  return join(PROJECT, ".hark", `${run}_server`);
}

/** How long another test program may take to make that folder, in ms. */
const PREPARING = 120_000;

/**
 * The data folder of a stopped server, with Hark in it or without, made once in a run; its end
 * removes it. A test program with no run around it has none, as nothing would remove it.
 */
async function preparedData(schema: boolean): Promise<string | undefined> {
  const run = Deno.env.get("HARK_TEST_RUN");
  if (run === undefined) return undefined;
  const folder = join(preparedFolder(run), schema ? "hark" : "empty");
  await Deno.mkdir(folder, { recursive: true });
  if (Deno.build.os !== "windows") {
    await Deno.chmod(preparedFolder(run), 0o755);
    await Deno.chmod(folder, 0o755);
  }
  const finished = join(folder, "finished");
  using _alone = await lock(join(folder, "making.lock"), "alone", PREPARING);
  const made = await Deno.readTextFile(finished).catch(() => undefined);
  if (made !== undefined) return made;
  const dataDir = join(folder, "data");
  const server = await startEmbedded({ dataDir, settings: { fsync: "off" }, ...versionOf() });
  try {
    if (schema) await installTidily(server.url);
  } finally {
    await server[Symbol.asyncDispose]();
  }
  await Deno.writeTextFile(finished, server.dataDir);
  return server.dataDir;
}

/** Removes the data folders that the servers of a run began with. */
export async function removePrepared(run: string): Promise<void> {
  for (const kind of ["hark", "empty"]) {
    const data = await Deno.readTextFile(join(preparedFolder(run), kind, "finished"))
      .catch(() => undefined);
    // Below another folder if the project's is closed to the server's user.
    if (data !== undefined) await Deno.remove(data, { recursive: true }).catch(() => {});
  }
  await Deno.remove(preparedFolder(run), { recursive: true }).catch(() => {});
}
