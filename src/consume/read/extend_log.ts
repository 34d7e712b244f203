/**
 * Room in the log for what is published next.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { isPassing, messageOf, translate } from "../../database/translate.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * Creates segments of the log in advance. Only on a session of Hark's own: inside a caller's
 * transaction the locks would stay. If creating a segment fails, rows still have room in the
 * overflow segment.
 */
export async function extendLog(session: Queryable): Promise<void> {
  if (ownConnection(session) === undefined) return;
  try {
    await session.query("select hark.extend()");
  } catch (error) {
    const reason = translate(error);
    if (isPassing(reason)) throw reason;
    logger.warn("Could not create segments of the log in advance: {reason}", {
      reason: messageOf(reason),
    });
  }
}
