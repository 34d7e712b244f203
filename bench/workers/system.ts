/**
 * What a worker process runs: told what to serve, it serves until it is stopped.
 *
 * @module
 */

import type { ConsumerOptions } from "@hark/postgres";

/** What a worker is told. */
export interface Serve {
  readonly url: string;
  /** The channel, task or queue. */
  readonly name: string;
  /** Of a Hark consumer. */
  readonly options?: ConsumerOptions;
  /** How many consumers the process serves, where it can be many. */
  readonly consumers?: number;
  /** To be called once it is connected and begins to read. */
  begins(): void;
  handled(payload: unknown): void;
}

/** A worker at work. `done` settles where it ends by itself. */
export interface Serving {
  readonly done?: Promise<unknown>;
  stop(): Promise<unknown>;
}

/** Starts one. */
export type System = (serve: Serve) => Promise<Serving>;
