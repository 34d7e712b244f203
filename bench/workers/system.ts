/**
 * What a worker process runs: it is given what to serve, and serves it until it is stopped.
 *
 * @module
 */

import type { ConsumerOptions } from "@hark/postgres";

/** The configuration of a worker. */
export interface Serve {
  readonly url: string;
  /** The channel, task or queue. */
  readonly name: string;
  /** Options of a Hark consumer. */
  readonly options?: ConsumerOptions;
  /** The number of consumers in the process, for systems that support several. */
  readonly consumers?: number;
  /** Must be called once the worker is connected and begins to read. */
  begins(): void;
  handled(payload: unknown): void;
}

/** A running worker. `done` settles if the worker ends by itself. */
export interface Serving {
  readonly done?: Promise<unknown>;
  stop(): Promise<unknown>;
}

/** Starts a worker. */
export type System = (serve: Serve) => Promise<Serving>;
