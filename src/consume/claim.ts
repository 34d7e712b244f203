/**
 * Becoming the owner of a partition, however long another worker keeps it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { pause } from "../database/bell.ts";
import type { Queryable } from "../database/queryable.ts";
import { type Claimant, OwnedPartition } from "./partition.ts";

const logger = getLogger(["hark", "consumer"]);

/** Claims until it is granted; undefined where `stopping` aborts first. */
export async function claim(
  session: Queryable,
  claimant: Claimant,
  stopping: AbortSignal,
  sessionKey: bigint | undefined,
): Promise<OwnedPartition | undefined> {
  let presumeGone = false;
  let told = false;
  while (!stopping.aborted) {
    const claimed = await OwnedPartition.claim(session, claimant, sessionKey, presumeGone);
    if (claimed instanceof OwnedPartition) return claimed;
    if (!told) {
      told = true;
      logger.info("{consumer} is served by another worker; standing by", {
        consumer: claimant.consumer,
      });
    }
    presumeGone = claimed.outcome === "gone";
    await pause(Math.min(Math.max(claimed.wait, 10), 1000), stopping);
  }
  return undefined;
}
