/**
 * Options of publishing.
 *
 * @module
 */

import type { LaterOptions } from "./later.ts";

/** Options of `notify`. */
export interface NotifyOptions extends LaterOptions {
  /**
   * The key: what the notification is about, at most 1,000 characters. A number is stored as its
   * digits: 5 and "5" are the same key. Notifications with the same key are handled in order. Notifications without a key have no order across partitions.
   */
  readonly key?: string | number | bigint | null;
  /**
   * Facts about the notification, such as a trace id, the author or the reason. An object that JSON
   * can hold.
   */
  readonly headers?: Readonly<Record<string, unknown>> | null;
}
