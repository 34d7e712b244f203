/**
 * Warns of workers that have nothing to do.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { pause } from "../../database/bell.ts";
import type { Queryable } from "../../database/queryable.ts";
import type { Known } from "./thread_messages.ts";

const logger = getLogger(["hark", "cli"]);

/** How often to check whether all consumers are registered, and for how long at most, in ms. */
const every = 500;
const longest = 20_000;

/**
 * Warns of consumers with fewer partitions than workers: the other workers stand by. It asks the
 * database after all consumers are registered, as the option `partitions` counts only then.
 */
export async function warnOfIdleWorkers(
  db: Queryable,
  consumers: readonly Known[],
  workers: number,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (let waited = 0; waited < longest && !signal.aborted; waited += every) {
      const { rows } = await db.query(
        "select pg_catalog.to_json(s)::text as one from hark.status(1) s",
      );
      const known = new Map<string, number>(
        rows.map(({ one }) => JSON.parse(one)).map((one) => [one.consumer, one.partitions ?? 1]),
      );
      if (!consumers.every(({ id }) => known.has(id))) {
        await pause(every, signal);
        continue;
      }
      for (const { id } of consumers) {
        const partitions = known.get(id)!;
        if (partitions >= workers) continue;
        logger.warn(
          "partitions of {consumer}: {partitions}, workers: {workers}, of which {idle} stand by. " +
            "To use them: hark consumers partitions {consumer} {workers}",
          { consumer: id, partitions, workers, idle: workers - partitions },
        );
      }
      return;
    }
  } catch (error) {
    logger.debug("could not read the numbers of partitions: {error}", { error });
  }
}
