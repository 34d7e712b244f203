/**
 * The functions that a caller gives to handle notifications, and their context.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import type { Notification } from "./notification.ts";

/** What a handler receives besides the notification. */
export interface HandlerContext {
  /**
   * Aborts when the handler's result will no longer count. The reasons: another worker has taken
   * over, the handler's `timeout` has passed, or stopping took longer than `stopTimeout`.
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
   * not. Later notifications of its key in the same batch count as not handled, and are delivered
   * again after it. With `transactional` the batch is rolled back. Then all other notifications are
   * delivered again too, without counting a failed attempt.
   */
  readonly fail: (notification: Notification, error?: unknown) => void;
}

/** Handles one notification. If the handler throws, the notification is retried. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type Handler<Payload = any> = (
  notification: Notification<Payload>,
  context: HandlerContext,
) => unknown;

/**
 * Handles several notifications in one call. If the handler throws, each notification has failed.
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type BatchHandler<Payload = any> = (
  notifications: readonly Notification<Payload>[],
  context: HandlerContext,
) => unknown;
