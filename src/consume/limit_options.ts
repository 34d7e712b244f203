/**
 * The options about limits.
 *
 * @module
 */

import type { Duration } from "../duration.ts";
import type { Notification } from "./notification.ts";

/** A rate: at most `count` starts of handlers per `per`, in one worker. */
export interface RateOptions {
  /**
   * How many starts, 1 to 1000000000. After a pause that many may follow each other at once. Then
   * they come evenly, so at most twice as many fall into any `per`.
   */
  readonly count: number;
  /** In how long, 1 ms to 1 day. */
  readonly per: Duration;
}

/** The limits of each key, or of each group of keys. */
export interface KeyLimitOptions {
  /**
   * The most handlers of a group at a time, 1 to 10000. Without `by` at most one handler runs for a
   * key anyway.
   *
   * @default {none}
   */
  readonly concurrency?: number;
  /** The rate of each key or group. Each attempt counts. */
  readonly rate?: RateOptions;
}

/**
 * How the keys of a consumer share a worker. Keys take turns, so that many notifications of one key do
 * not keep the others waiting. The order inside each key stays. All limits are those of one worker:
 * two workers of a consumer together do twice as much.
 *
 * @example
 * ```ts
 * import type { LimitOptions } from "@hark/postgres";
 *
 * const limits: LimitOptions = {
 *   by: ({ payload }) => payload.tenant,
 *   perKey: { concurrency: 2, rate: { count: 100, per: "1m" } },
 *   rate: { count: 50, per: "1s" },
 * };
 * ```
 */
export interface LimitOptions {
  /** The limits of each key, or of each group that `by` makes. What has no group has no limits. */
  readonly perKey?: KeyLimitOptions;
  /** The rate of the whole worker. Each attempt counts. */
  readonly rate?: RateOptions;
  /**
   * Makes the group that takes turns and has the limits, instead of the key: such as the tenant of a
   * notification. A group should hold whole keys. If the keys of a group differ, they are handled in
   * no order between them.
   */
  readonly by?: (notification: Notification) => string | number | bigint | null | undefined;
}
