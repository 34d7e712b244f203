/**
 * How a drain that does not wait becomes a worker: by its first statement, or not at all. A consumer that is new
 * is registered before.
 *
 * @module
 */

import { quick } from "../../database/quick.ts";
import type { Queryable } from "../../database/queryable.ts";
import { messageOf } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import type { Entry } from "../lease/enter.ts";
import { Membership } from "../lease/membership.ts";
import { rebase } from "../link.ts";
import type { CheckedOptions } from "../state/context.ts";
import { register } from "./register.ts";

const logger = getLogger(["hark", "consumer"]);

/** The entrance of one drain. */
export class Entrance {
  /** What it enters with. */
  readonly membership: Membership;
  readonly #on: Queryable;
  readonly #options: CheckedOptions;
  readonly #over: AbortSignal | undefined;

  /**
   * @param session For a program that has no connection yet.
   * @param over Aborts when the time of the drain is over.
   */
  constructor(
    db: Queryable,
    options: CheckedOptions,
    session: Queryable,
    over: AbortSignal | undefined,
  ) {
    this.membership = new Membership(options.identity, db, undefined);
    this.#on = quick(db, session, over);
    this.#options = options;
    this.#over = over;
  }

  /**
   * Enters if a partition is free. Checks the schema. If the consumer is new, or has another definition, it is
   * registered first: on the same connection, as most of many drains at once are busy then.
   */
  async enter(): Promise<Entry> {
    const { version } = this.#options;
    const entry = await this.membership.enter(this.#on, version);
    if (entry !== "register") return entry;
    await rebase(this.#on);
    await register(this.#on, this.#options);
    return await this.membership.enter(this.#on, version);
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
