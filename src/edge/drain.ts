/**
 * Draining where time is billed.
 *
 * @module
 */

import { type Consumer, drainConsumer } from "../consume/consumer.ts";
import type { DrainOptions } from "../consume/run_options.ts";

/** What a drain has done, and why it ended. */
export interface DrainResult {
  /** How many notifications were handled. */
  readonly handled: number;
  /** How many attempts failed and will be repeated. */
  readonly failed: number;
  /** How many notifications became dead letters. */
  readonly dead: number;
  /**
   * How many notifications the drain leaves that it had read or found waiting: those that wait for a
   * retry, and those that it released. What it has not read does not count.
   */
  readonly left: number;
  /**
   * Whether another drain may find something to handle at once: also one of another consumer, if this
   * drain has published something that came due while it ran. False is certain, for what was
   * committed or due when this drain began. After `"busy"` and `"paused"` it is false, too.
   */
  readonly more: boolean;
  /**
   * Why it ended:
   *
   * - `"done"`: all is handled that was committed when it began, here or by other workers.
   * - `"limit"`: the limit was reached.
   * - `"deadline"`: the deadline has come, or was near.
   * - `"stopped"`: by the signal, or by `stop()`.
   * - `"busy"`: other workers serve what is left, or a transaction has locked its partition, and `wait`
   *   is false. Of {@linkcode drainHandler} also: an earlier request drains the consumer.
   * - `"paused"`: the consumer is paused.
   */
  readonly reason: "done" | "limit" | "deadline" | "stopped" | "busy" | "paused";
}

/**
 * Publishes what is delayed or scheduled and due by now, for all consumers. Then handles what was
 * committed when the drain was called, and that, as `consumer.drain()` does, and tells how it
 * went. A drain needs no LISTEN, and nothing stays open after it but the database.
 *
 * At the deadline, progress is stored and the partitions are released. That takes a few more
 * statements. A handler that does not observe its signal goes on beside what comes next.
 *
 * @throws {HarkError} As `consumer.run()`, and if the connection is lost. `CONFLICT` if the consumer
 * runs already.
 * @example Each minute, by the scheduler of Deno Deploy
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { drain } from "@hark/postgres/edge";
 *
 * export async function everyMinute(): Promise<void> {
 *   await using db = await connect(Deno.env.get("DATABASE_URL"), { poolSize: 1 });
 *   const consumer = new Consumer(db, { id: "billing", channels: "orders", handle() {} });
 *   const { handled, more } = await drain(consumer, { deadline: "50s", wait: false });
 *   console.log(handled, more);
 * }
 * ```
 */
export async function drain(consumer: Consumer, options: DrainOptions = {}): Promise<DrainResult> {
  const { handled, failed, dead, left, more, end, late } = await drainConsumer(consumer, options);
  const reason = end ?? (late ? "deadline" : "stopped");
  return { handled, failed, dead, left, more, reason };
}
