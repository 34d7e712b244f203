/**
 * One run at a time, of what is no consumer.
 *
 * @module
 */

import { Joined } from "../aborted.ts";
import { HarkError } from "../errors.ts";
import { Readiness } from "../consume/readiness.ts";

/** Runs a relay or an inbox, once at a time, until it ends or is stopped. */
export class OneRun {
  readonly #what: string;
  #running: { readonly stop: AbortController; readonly done: Promise<unknown> } | undefined;
  #ready = new Readiness();

  /** @param what What runs, such as `relay "out"`. */
  constructor(what: string) {
    this.#what = what;
  }

  /**
   * Resolves when a run is ready. Rejects if it fails before, and with `CONFLICT` if it is stopped
   * before.
   */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /**
   * Runs it.
   *
   * @param signal Stops it too.
   * @throws {HarkError} `CONFLICT` if it runs already.
   */
  async run<T>(
    run: (stopping: AbortSignal, ready: Readiness) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    if (this.#running !== undefined) {
      throw new HarkError("CONFLICT", `${this.#what} is already running`, {
        remedy: "Stop it first, or make another one.",
      });
    }
    if (this.#ready.isSettled) this.#ready = new Readiness();
    const ready = this.#ready;
    const stop = new AbortController();
    using stopping = new Joined(stop.signal, ...(signal ? [signal] : []));
    const done = run(stopping.signal, ready);
    this.#running = { stop, done };
    try {
      return await done;
    } catch (error) {
      ready.reject(error);
      throw error;
    } finally {
      ready.stopped(this.#what);
      this.#running = undefined;
    }
  }

  /** Stops it. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#running?.stop.abort();
    await this.#running?.done.catch(() => {}); // run() tells its own errors
  }
}
