/**
 * A server for one test, to be stopped, killed and set up as the test needs it.
 *
 * @module
 */

import {
  type EmbeddedServer,
  startEmbedded,
  type StopMode,
} from "../../src/database/embedded/mod.ts";
import { type Client, connect, disconnect, type Row } from "./connect.ts";
import { install } from "./template.ts";

/** What the server has to be like. */
export interface OwnServerOptions {
  /** Settings, for example `{ max_prepared_transactions: "10" }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The PostgreSQL version, such as "16"; the environment's HARK_TEST_PG unless given. */
  readonly version?: string;
  /** Whether Hark is installed in its database. @default {true} */
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
  start(): Promise<void> {
    return this.#server.start();
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

/** Starts a server: `await using server = await ownServer()`. About 1.2 s. */
export async function ownServer(options: OwnServerOptions = {}): Promise<OwnServer> {
  const version = options.version ?? (Deno.env.get("HARK_TEST_PG") || undefined);
  const server = new OwnServer(
    await startEmbedded({
      ephemeral: true,
      ...(version === undefined ? {} : { version }),
      ...(options.settings === undefined ? {} : { settings: options.settings }),
    }),
  );
  try {
    if (options.schema ?? true) await install(server.url);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}
