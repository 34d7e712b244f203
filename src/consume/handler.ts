/**
 * What a user's handler is, and what it is given.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import type { Notification } from "./notification.ts";

/** What a handler is given beside the notification. */
export interface HandlerContext {
  /**
   * Aborts when the result will not count any more: another worker has taken over, the handler's `timeout`
   * is over, or stopping took longer than `stopTimeout`.
   */
  readonly signal: AbortSignal;
  /**
   * The transaction of a `transactional` consumer: what is written on it commits together with the fact that
   * the notification is handled, or not at all. Throws where the consumer is not transactional.
   */
  readonly tx: Queryable;
  /**
   * For `handleBatch`: says that one notification of the batch has failed, while the others have not. Later
   * ones of its key in the same batch count as not handled either and come again after it. With
   * `transactional` the batch is rolled back, and all others come again too, without a failed attempt.
   */
  readonly fail: (notification: Notification, error?: unknown) => void;
}

/** Handles one notification; when it throws, the notification is tried again. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type Handler<Payload = any> = (
  notification: Notification<Payload>,
  context: HandlerContext,
) => unknown;

/** Handles several notifications at once; when it throws, each of them has failed. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type BatchHandler<Payload = any> = (
  notifications: readonly Notification<Payload>[],
  context: HandlerContext,
) => unknown;
