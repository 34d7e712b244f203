/**
 * Pausing, dividing and removing consumers.
 *
 * @module
 */

import { consumerName, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";

/** Calls a function of one consumer that answers with one value. */
async function ask(db: Queryable, call: string, values: unknown[]): Promise<unknown> {
  await requireSchema(db);
  const { rows } = await translated(() => db.query(`select ${call} as answer`, values));
  return rows[0].answer;
}

/**
 * Stops delivery to a consumer, in whatever processes it runs, until {@linkcode resume}. What
 * handlers are at they finish; nothing new begins. Nothing is lost. Returns whether that is news.
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
  return await ask(db, "hark.pause($1::text)", [consumerName(consumer)]) === true;
}

/**
 * Goes on with delivery to a consumer that was stopped by {@linkcode pause}. Returns whether it was.
 *
 * @throws {HarkError} as {@linkcode pause}.
 * @example
 * ```ts
 * import { connect, resume } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await resume(db, "billing") ? "goes on" : "was not paused");
 * ```
 */
export async function resume(db: Queryable, consumer: string): Promise<boolean> {
  return await ask(db, "hark.resume($1::text)", [consumerName(consumer)]) === true;
}

/**
 * Removes a consumer with its position, what waits for it and its dead letters, so that it no longer
 * holds back {@linkcode cleanup}. A worker that serves it ends with an error. Returns whether there
 * was one. A consumer of that name that runs again begins anew.
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
  return await ask(db, "hark.remove_consumer($1::text)", [consumerName(consumer)]) === true;
}

/**
 * Changes into how many partitions a consumer is divided, 1 to 1,024: how many workers can share it.
 * Its workers first read to a common point, so that no key is overtaken: `"pending"` until they
 * have, `"done"` where nothing is in the way. Which partition a null key falls into changes; order
 * within a key does not.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`, also while another such change is under way;
 * `NO_PERMISSION` without `hark.grant_operate`.
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
  const count = wholeNumber("partitions", partitions ?? NaN, 1, 1, 1024);
  const answer = await ask(db, "hark.repartition($1::text, $2::integer)", [name, count]);
  return answer === "done" ? "done" : "pending";
}
