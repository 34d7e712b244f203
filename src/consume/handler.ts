/**
 * The functions that a caller gives to handle notifications, and their context.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import type { Notification } from "./notification.ts";

/** The worker that calls a handler. */
export interface HandlingWorker {
  /**
   * The name of the process: `HOST:PID`, and `/THREAD` in a named thread. Without the right to read
   * the host's name it begins with the colon.
   */
  readonly name: string;
  /** The id of the consumer. */
  readonly consumer: string;
  /** The partition of the notification. Undefined for a batch of more than one partition. */
  readonly partition: number | undefined;
}

/** What a handler receives besides the notification. */
export interface HandlerContext {
  /** The worker that calls the handler. */
  readonly worker: HandlingWorker;
  /**
   * Aborts when the handler's result will no longer count. The reasons: another worker has taken
   * over, the handler's `timeout` has passed, or stopping took longer than `stopTimeout`. After the
   * call it no longer aborts.
   */
  readonly signal: AbortSignal;
  /**
   * The transaction of a `transactional` consumer. Writes on it commit together with the fact that
   * the notification is handled, or not at all. Reading this field throws if the consumer is not
   * transactional.
   */
  readonly tx: Queryable;
  /**
   * For `handleBatch`: reports that one notification of the batch has failed while the others have
   * not. **Do not handle later notifications of its key in the same batch.** They count as not
   * handled, and are delivered again after it. A loop `for (const one of notifications)` leaves
   * them out by itself from the call of `fail` on. In any other loop ask
   * {@linkcode HandlerContext.isBehindFailure}. With `onFailure: "block"` the same holds for all
   * later notifications of the partition.
   *
   * With `transactional` the batch is rolled back. Then all other notifications are delivered again
   * too, without counting a failed attempt.
   *
   * Call it before the handler's promise is settled. A later call is logged as an error, and does
   * nothing else.
   */
  readonly fail: (notification: Notification, error?: unknown) => void;
  /**
   * For `handleBatch`: whether an earlier notification of the same key in the batch was given to
   * `fail`. Then skip this one: it will be delivered again.
   */
  readonly isBehindFailure: (notification: Notification) => boolean;
}

/** Handles one notification. If the handler throws, the notification is retried. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type Handler<Payload = any> = (
  notification: Notification<Payload>,
  context: HandlerContext,
) => unknown;

/**
 * Handles several notifications in one call, the notifications of a key in order. If the handler
 * throws, each notification has failed. To report single ones, call `context.fail`. A loop
 * `for (const one of notifications)` then leaves out the rest of that key.
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type BatchHandler<Payload = any> = (
  notifications: readonly Notification<Payload>[],
  context: HandlerContext,
) => unknown;

/**
 * A function around a handler: see the option `around`. It calls the handler, or the next function
 * of the list, by `next()`.
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type Around<Payload = any> = (
  notification: Notification<Payload>,
  context: HandlerContext,
  next: () => Promise<unknown>,
) => unknown;

/** A function around a batch handler: see the option `aroundBatch`. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type AroundBatch<Payload = any> = (
  notifications: readonly Notification<Payload>[],
  context: HandlerContext,
  next: () => Promise<unknown>,
) => unknown;

/** How a notification was handled: what `onHandled` receives. */
export interface Handled {
  /** What the handler returned, or the outermost function of `around`. Of a batch, the same for each. */
  readonly result: unknown;
  /** The number of the attempt, as the notification has it. */
  readonly attempt: number;
  /**
   * How long the handler took, in milliseconds, accurate to about 1 ms. With `transactional` the
   * transaction is included. Of a batch, how long the batch took.
   */
  readonly milliseconds: number;
}
