/**
 * Has marks cut on the primary for readers of a replica, at a bounded rate.
 *
 * @module
 */

import { backoff } from "../../database/bell.ts";
import type { Connections } from "../../database/connections.ts";
import type { OwnConnection, Queryable } from "../../database/queryable.ts";
import type { ReplicaConnections } from "../../database/replica.ts";
import { isPassing, messageOf, translate } from "../../database/translate.ts";
import type { HarkError } from "../../errors.ts";
import { getLogger } from "../../log/logger.ts";
import { rebase } from "../link.ts";
import type { Mark } from "../state/position.ts";
import { cut } from "./cut.ts";
import { Upkeep } from "./upkeep.ts";

const logger = getLogger(["hark", "replica"]);

/** A mark that was asked for. */
export interface Cut {
  /** When, by `performance.now()`. */
  readonly at: number;
  /** Undefined if it failed. */
  readonly mark?: Mark;
  readonly error?: HarkError;
}

/** Asks for one mark at a time. */
export class Cutter {
  readonly #primary: Connections;
  readonly #replica: ReplicaConnections;
  readonly #told: () => void;
  #lane: OwnConnection | undefined;
  #last: Cut | undefined;
  #running: Promise<void> | undefined;
  #isRebased = false;
  /** How often in a row the primary could not be asked. */
  #failures = 0;
  readonly #upkeep = new Upkeep();

  /** @param told Called when there is an answer. */
  constructor(primary: Connections, replica: ReplicaConnections, told: () => void) {
    this.#primary = primary;
    this.#replica = replica;
    this.#told = told;
  }

  /** The last answer. */
  get last(): Cut | undefined {
    return this.#last;
  }

  /** Whether it waits for an answer. */
  get isAsking(): boolean {
    return this.#running !== undefined;
  }

  /** When a mark may be asked for, if the newest one has been there since a time. */
  due(since: number): number {
    const { interval, connections: { maxReconnectDelay } } = this.#replica;
    const wait = this.#failures === 0
      ? interval
      : Math.max(interval, backoff(this.#failures, 50, maxReconnectDelay));
    return Math.max(since, this.#last?.at ?? -Infinity) + wait;
  }

  /**
   * Asks for a mark.
   *
   * @param promoted The replica's own session, if the replica has been promoted.
   */
  ask(promoted: Queryable | undefined): void {
    this.#running ??= this.#ask(promoted).finally(() => this.#running = undefined);
  }

  async #ask(promoted: Queryable | undefined): Promise<void> {
    const at = performance.now();
    try {
      const session = promoted ?? this.#session();
      // A server that was restored from a dump needs that before its first mark.
      if (!this.#isRebased) await rebase(session);
      this.#isRebased = true;
      this.#last = { at, mark: await cut(session) };
      this.#failures = 0;
      this.#told();
      await this.#upkeep.tend(session);
    } catch (error) {
      const reason = translate(error);
      this.#last = { at, error: reason };
      this.#failures++;
      this.#told();
      logger[isPassing(reason) ? "warn" : "error"](
        "The primary could not be asked for a mark, so what is new on the replica {replica} is not read yet: {reason}",
        { replica: this.#replica.shown, reason: messageOf(reason) },
      );
    }
  }

  /** A connection to the primary, kept until there are no readers. */
  #session(): OwnConnection {
    if (this.#lane?.alive !== true) {
      void this.#lane?.close();
      this.#lane = this.#primary.lane();
    }
    return this.#lane;
  }

  /** Waits for what it has asked, and closes its connection. */
  async close(): Promise<void> {
    await this.#running;
    await this.#lane?.close();
    this.#lane = undefined;
  }
}
