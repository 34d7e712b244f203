/**
 * The role of a worker among the workers of its consumer.
 *
 * @module
 */

import { HarkError } from "../../errors.ts";
import { getLogger } from "../../log/logger.ts";
import type { Heartbeat } from "./heartbeat.ts";

const logger = getLogger(["hark", "consumer"]);

/** Whether a worker serves, stands by, or is outdated. */
export class Standing {
  readonly #consumer: string;
  readonly #drain: boolean;
  #standing: "serving" | "standby" | "outdated" | undefined;

  constructor(consumer: string, drain: boolean) {
    this.#consumer = consumer;
    this.#drain = drain;
  }

  /** Logs the role of this worker when it changes. An outdated drain fails instead. */
  tell({ outcome, share, workers }: Heartbeat): void {
    const standing = outcome === "outdated" ? outcome : share === 0 ? "standby" : "serving";
    if (standing === this.#standing) return;
    const before = this.#standing;
    this.#standing = standing;
    const consumer = this.#consumer;
    if (standing === "outdated") {
      if (this.#drain) {
        throw new HarkError(
          "OUTDATED",
          `consumer "${consumer}" has other channels, another filter or transactional than this worker, by a ` +
            "higher version or by workers that serve it",
          { remedy: "Give this worker the same definition, or a higher version." },
        );
      }
      logger.warn(
        "{consumer}: another worker has changed its channels, filter or transactional; this worker stands by " +
          "until that is undone, or until no worker has served the consumer for one lease",
        { consumer },
      );
    } else if (standing === "standby") {
      logger.info(
        "{consumer}: other workers serve all partitions, {count} workers in all; standing by",
        {
          consumer,
          count: workers,
        },
      );
    } else if (before !== undefined) {
      logger.info("{consumer}: this worker serves from now on, {share} of the partitions", {
        consumer,
        share,
      });
    }
  }
}
