/**
 * What an outdated worker does if no other worker serves the consumer.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { HarkError } from "../../errors.ts";
import type { Heartbeat } from "./heartbeat.ts";

/** Registers a worker's own definition again, once no other has served the consumer for one lease. */
export class StandIn {
  readonly #lease: number;
  readonly #register: (session: Queryable) => Promise<void>;
  /** Since when this outdated worker has seen no worker serve the consumer. */
  #unservedSince: number | undefined;

  constructor(lease: number, register: (session: Queryable) => Promise<void>) {
    this.#lease = lease;
    this.#register = register;
  }

  /** The worker's own definition is the consumer's. */
  over(): void {
    this.#unservedSince = undefined;
  }

  /** Called after each heartbeat that says that the worker is outdated. */
  async tend(session: Queryable, { workers }: Heartbeat): Promise<void> {
    const now = performance.now();
    if (workers > 0) this.#unservedSince = undefined;
    else this.#unservedSince ??= now;
    if (this.#unservedSince === undefined || now - this.#unservedSince < this.#lease) return;
    this.#unservedSince = now;
    try {
      await this.#register(session);
    } catch (error) {
      // Another worker was quicker: this one goes on standing by.
      if (!(error instanceof HarkError && error.code === "CONFLICT")) throw error;
    }
  }
}
