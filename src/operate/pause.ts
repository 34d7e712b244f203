/**
 * Pausing, partitioning and removing consumers.
 *
 * @module
 */

import { bad, consumerName, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";

/** Calls a SQL function of one consumer that returns one value. */
async function call(db: Queryable, expression: string, ...values: unknown[]): Promise<unknown> {
  const [{ answer }] = await ask(db, `select ${expression} as answer`, values);
  return answer;
}

/**
 * Stops delivery to a consumer in all its workers, until {@linkcode resume}. Running handlers
 * finish; no new ones start. Nothing is lost. Returns false if the consumer was already paused.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate`.
 * @example
 * ```ts
 * import { connect, pause, resume } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await pause(db, "billing");
 * // repair what it depends on
 * await resume(db, "billing");
 * ```
 */
export async function pause(db: Queryable, consumer: string): Promise<boolean> {
  return await call(db, "hark.pause($1::text)", consumerName(consumer)) === true;
}

/**
 * Resumes delivery to a consumer that {@linkcode pause} has stopped. Returns whether it was paused.
 *
 * @throws {HarkError} The errors of {@linkcode pause}.
 * @example
 * ```ts
 * import { connect, resume } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await resume(db, "billing") ? "goes on" : "was not paused");
 * ```
 */
export async function resume(db: Queryable, consumer: string): Promise<boolean> {
  return await call(db, "hark.resume($1::text)", consumerName(consumer)) === true;
}

/**
 * Removes a consumer with its position, its waiting notifications and its dead letters. It then no
 * longer holds back {@linkcode cleanup}. A worker that serves it ends with an error. Returns
 * whether the consumer existed. If a consumer with the same name runs again, it is registered anew.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate`.
 * @example
 * ```ts
 * import { connect, removeConsumer } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await removeConsumer(db, "billing") ? "removed" : "there was none");
 * ```
 */
export async function removeConsumer(db: Queryable, consumer: string): Promise<boolean> {
  return await call(db, "hark.remove_consumer($1::text)", consumerName(consumer)) === true;
}

/**
 * Sets the number of partitions of a consumer, 1 to 1,024. At most that many workers can share it.
 *
 * All workers first read to a common point, so that no notification overtakes an earlier one of its
 * key. The result is `"pending"` until they have reached it, and `"done"` if nothing has to be
 * awaited. Notifications without a key may move to another partition. The order within a key does
 * not change.
 *
 * While a change is pending, the number that the consumer has takes it back, and any other number
 * replaces it. A partition that is held up could not reach the common point, and all others would
 * wait there. So the change is then refused. If a partition is held up later, its worker takes the
 * change back and logs that.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; `CONFLICT` while a partition is held up, naming
 * the notification; `NO_PERMISSION` without `hark.grant_operate`.
 * @example
 * ```ts
 * import { connect, setPartitions } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await setPartitions(db, "billing", 8));
 * ```
 */
export async function setPartitions(
  db: Queryable,
  consumer: string,
  partitions: number,
): Promise<"done" | "pending"> {
  const name = consumerName(consumer);
  if (partitions === undefined) {
    bad("partitions", partitions, "Give a whole number from 1 to 1024.");
  }
  const count = wholeNumber("partitions", partitions, 1, 1, 1024);
  const answer = await call(db, "hark.repartition($1::text, $2::integer)", name, count);
  return answer === "done" ? "done" : "pending";
}
