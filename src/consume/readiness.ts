/**
 * A promise that a run is ready.
 *
 * @module
 */

import { HarkError } from "../errors.ts";

/** A promise that a run is ready. What is told after it has settled changes nothing. */
export class Readiness {
  readonly #settling = Promise.withResolvers<void>();
  readonly promise: Promise<void> = this.#settling.promise;
  isSettled = false;

  constructor() {
    this.promise.catch(() => {}); // most programs never read it, and run() rejects as well
  }

  resolve(): void {
    this.isSettled = true;
    this.#settling.resolve();
  }

  reject(reason: unknown): void {
    this.isSettled = true;
    this.#settling.reject(reason);
  }

  /** @param what What was stopped, such as `relay "out"`. */
  stopped(what: string): void {
    this.reject(
      new HarkError("CONFLICT", `${what} was stopped before it was ready`, {
        remedy: "Run it again, or stop it later.",
      }),
    );
  }
}
