/**
 * Becoming the owner of a partition, however long another worker keeps it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { pause } from "../database/bell.ts";
import type { Queryable } from "../database/queryable.ts";
import { type Claimant, OwnedPartition } from "./partition.ts";
import type { Run } from "./run.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * Claims until it is granted; undefined where the run stops first, or only finishes and is refused.
 */
export async function claim(
  session: Queryable,
  claimant: Claimant,
  run: Run,
  sessionKey: bigint | undefined,
): Promise<OwnedPartition | undefined> {
  const { consumer } = claimant;
  let presumeGone = false;
  let told = false;
  while (!run.stopping.aborted) {
    const claimed = await OwnedPartition.claim(session, claimant, sessionKey, presumeGone);
    if (claimed instanceof OwnedPartition) return claimed;
    if (!told) {
      told = true;
      logger.info("{consumer} is served by another worker; standing by", { consumer });
    }
    if (run.pending.ids.size > 0) {
      // It has begun where we had stored, so these are its own by now, and no more for us to store.
      logger.warn(
        "{consumer}: {count} notifications handled here are handled by another worker too",
        {
          consumer,
          count: run.pending.ids.size,
        },
      );
      run.pending.ids.clear();
    }
    if (run.finishing) return undefined;
    presumeGone = claimed.outcome === "gone";
    await pause(Math.min(Math.max(claimed.wait, 10), 1000), run.stopping);
  }
  return undefined;
}
