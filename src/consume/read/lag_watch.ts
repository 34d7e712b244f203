/**
 * Says when a replica lags, once, and when it has caught up.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";

const logger = getLogger(["hark", "replica"]);

/** A replica lags if it is this far behind, in milliseconds. */
const far = 10_000;
/** After an idle hour the first commit looks an hour late until it is replayed: that is no lag. */
const lasting = 3000;

/** Watches the lag of a replica. */
export class LagWatch {
  readonly #shown: string;
  #since: number | undefined;
  #isTold = false;

  constructor(shown: string) {
    this.#shown = shown;
  }

  /** Notes how far behind the replica is at a time of `performance.now()`. */
  note(behind: number, at: number): void {
    const replica = this.#shown;
    if (behind < far) {
      if (this.#isTold) logger.info("The replica {replica} has caught up", { replica });
      this.#since = undefined;
      this.#isTold = false;
      return;
    }
    this.#since ??= at;
    if (this.#isTold || at - this.#since < lasting) return;
    this.#isTold = true;
    logger.warn(
      "The replica {replica} is {behind} ms behind the primary, and so are its readers. They go on as it replays",
      { replica, behind: Math.round(behind) },
    );
  }
}
