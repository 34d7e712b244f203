/**
 * What a worker does if the database refuses its work.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translate } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import type { Assignment } from "../lease/assignment.ts";
import type { Acknowledger } from "../settle/acknowledger.ts";
import type { State } from "../state/state.ts";

const logger = getLogger(["hark", "consumer"]);

/** Work that is refused if partitions were lost, or if the server forgot its marks in a crash. */
export class Guard {
  readonly #state: State;
  readonly #assignment: Assignment;
  readonly #acknowledger: Acknowledger;
  readonly #beat: (session: Queryable) => Promise<void>;

  /** @param beat Sends a heartbeat. */
  constructor(
    state: State,
    assignment: Assignment,
    acknowledger: Acknowledger,
    beat: (session: Queryable) => Promise<void>,
  ) {
    this.#state = state;
    this.#assignment = assignment;
    this.#acknowledger = acknowledger;
    this.#beat = beat;
  }

  /**
   * Stores all progress. If part of it is refused, the rest is sent again.
   *
   * @param patient Whether to wait for partitions that a handler's transaction holds.
   */
  async acknowledge(session: Queryable, patient: boolean): Promise<void> {
    for (let tries = 0; tries < 10; tries++) {
      if (await this.run(session, () => this.#acknowledger.send(session, patient))) return;
    }
  }

  /** Runs work. If it is refused, finds out which partitions were lost. Returns whether it was done. */
  async run(session: Queryable, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const reason = translate(error);
      if (reason.code === "FENCED") {
        // The heartbeat tells which partitions were lost. The rest is sent again.
        this.#assignment.due = -Infinity;
        await this.#beat(session);
      } else if (reason.code === "WINDOW_LOST") {
        logger.warn(
          "{consumer}: the server has restarted after a crash; reading continues from the stored position",
          { consumer: this.#state.options.identity.consumer },
        );
        await this.#assignment.claim(session, [...this.#state.partitions.keys()], false);
      } else throw reason;
      return false;
    }
  }
}
