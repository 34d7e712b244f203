/**
 * Publishing to a consumer and waiting until it has handled that.
 *
 * @module
 */

import { bad } from "../check.ts";
import { type AnyChannel, definitionKey, definitionOf } from "../channels/kind.ts";
import { insideOf } from "../channels/on.ts";
import type { Consumer } from "../consume/consumer.ts";
import type { Queryable } from "../database/queryable.ts";
import { consumerDetails, type WaitingNotification } from "../operate/consumers.ts";
import { deadLetters, type DeadNotification } from "../operate/dead.ts";
import { type NewNotification, notifyMany } from "../publish/notify.ts";

/**
 * A notification to publish. The channel may be left out if the consumer has only one. If that one is
 * a typed channel, its schema checks the payload, and its `key` sets the key. To publish what does not
 * fit, as SQL could, name the channel as text.
 */
export type TestNotification =
  & Omit<NewNotification, "channel">
  & Partial<Pick<NewNotification, "channel">>;

/** What came of it. */
export interface Drained {
  /** What `notifyMany` returned: the ids of what was published, in order. */
  readonly ids: readonly number[];
  /** How many notifications were handled, of these and of earlier ones. */
  readonly handled: number;
  /** What has failed and waits for its next attempt, by id, at most 20. */
  readonly failed: readonly WaitingNotification[];
  /**
   * What the consumer has given up in this call, by id: of these and of earlier ones. For dead
   * letters of earlier calls, use `deadLetters`.
   */
  readonly dead: readonly DeadNotification[];
}

/**
 * Publishes notifications, has the consumer handle everything there is, and returns what came of
 * it. Does not throw if a handler fails: look at `failed` and `dead`.
 *
 * A failed notification is tried again within this call if its next attempt is due within the
 * consumer's `pollInterval`. To have it wait instead, set `pollInterval: 10`, for example, or
 * `maxAttempts: 1`.
 *
 * @throws {HarkError} The errors of `notifyMany` and of `Consumer.drain`. `BAD_PAYLOAD` if a payload
 * does not fit the typed channel that it is published on.
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Consumer } from "@hark/postgres";
 * import { publishAndDrain, testDatabase } from "@hark/postgres/testing";
 *
 * Deno.test("an order without a total is given up", async () => {
 *   await using db = await testDatabase();
 *   const billing = new Consumer(db, {
 *     id: "billing",
 *     channels: "orders",
 *     maxAttempts: 1,
 *     handle({ payload }) {
 *       if (payload.total === undefined) throw new Error("no total");
 *     },
 *   });
 *   const { handled, dead } = await publishAndDrain(
 *     db,
 *     billing,
 *     { payload: { id: 1, total: 9 } },
 *     { payload: { id: 2 } },
 *   );
 *   assert.equal(handled, 1);
 *   assert.deepEqual(dead.map(({ error }) => error), ["no total"]);
 * });
 * ```
 */
export async function publishAndDrain(
  db: Queryable,
  consumer: Consumer,
  ...notifications: readonly TestNotification[]
): Promise<Drained> {
  const earlier = new Set((await deadOf(db, consumer, false)).map(occasion));
  // Registers a consumer that is new: one that begins with what comes now would pass over these.
  const before = await consumer.drain();
  const ids = await notifyMany(
    db,
    notifications.map((one) => ({ ...one, channel: one.channel ?? onlyChannel(consumer) })),
  );
  const handled = before + await consumer.drain();
  const name = consumer.id!;
  const details = await consumerDetails(db, name);
  return {
    ids,
    handled,
    failed: details.heads,
    dead: (await deadOf(db, consumer, true)).filter((one) => !earlier.has(occasion(one))),
  };
}

/** All dead letters of a consumer, which need not be registered yet. */
async function deadOf(
  db: Queryable,
  { id }: Consumer,
  contents: boolean,
): Promise<DeadNotification[]> {
  const all = await deadLetters(db, { limit: 1_000_000, contents });
  return all.filter(({ consumer }) => consumer === id);
}

/** What tells two dead letters apart, also if the same notification was given up twice. */
function occasion({ id, diedAt }: DeadNotification): string {
  return `${id} ${diedAt.getTime()}`;
}

/** The channel of a consumer that has only one: as it is declared, if it is typed. */
function onlyChannel({ channels, handle }: Consumer): NewNotification["channel"] {
  const [first, ...others] = Array.isArray(channels) ? channels : [channels];
  if (first === undefined || others.length > 0) {
    return bad("channel", undefined, "The consumer has several channels: say which.");
  }
  if (definitionOf(first) !== undefined) return first as AnyChannel;
  const name = typeof first === "string" ? first : first.name;
  const typed = insideOf(handle)?.typed(name);
  return typed === undefined ? name : { [definitionKey]: typed } as unknown as AnyChannel;
}
