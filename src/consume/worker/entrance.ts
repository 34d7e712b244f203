/**
 * How a drain that does not wait becomes a worker: by its first statement, or not at all.
 *
 * @module
 */

import { quick } from "../../database/quick.ts";
import type { Queryable } from "../../database/queryable.ts";
import { messageOf } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import type { Entry } from "../lease/enter.ts";
import { Membership } from "../lease/membership.ts";
import type { CheckedOptions } from "../state/context.ts";

const logger = getLogger(["hark", "consumer"]);

/** The entrance of one drain. */
export class Entrance {
  /** What it enters with. */
  readonly membership: Membership;
  readonly #on: Queryable;
  readonly #version: number;
  readonly #over: AbortSignal | undefined;

  /**
   * @param session For a program that has no connection yet.
   * @param over Aborts when the time of the drain is over.
   */
  constructor(
    db: Queryable,
    { identity, version }: CheckedOptions,
    session: Queryable,
    over: AbortSignal | undefined,
  ) {
    this.membership = new Membership(identity, db, undefined);
    this.#on = quick(db, session, over);
    this.#version = version;
    this.#over = over;
  }

  /** Enters if a partition is free. Checks the schema. */
  async enter(): Promise<Entry> {
    return await this.membership.enter(this.#on, this.#version);
  }

  /** Leaves, if nothing was claimed since. Otherwise the partition would be free only when the lease ends. */
  async close(): Promise<void> {
    try {
      if (this.membership.hasEntered && !this.#over?.aborted) await this.membership.leave(this.#on);
    } catch (error) {
      logger.debug("{consumer}: a drain could not leave: {reason}", {
        consumer: this.membership.identity.consumer,
        reason: messageOf(error),
      });
    }
    await this.membership.end();
  }
}
