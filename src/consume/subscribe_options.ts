/**
 * The options of a subscription.
 *
 * @module
 */

import type { Duration } from "../duration.ts";
import type { StartFrom } from "./start.ts";

/** Options of `subscribe`. */
export interface SubscribeOptions {
  /**
   * Where to begin.
   *
   * @default {"now"}
   */
  readonly from?: StartFrom;
  /**
   * Whether to go on with what is published later. With `false` the iteration ends after all that
   * had committed when it began.
   *
   * @default {true}
   */
  readonly follow?: boolean;
  /** End the iteration when this signal aborts. */
  readonly signal?: AbortSignal;
  /**
   * How often to read the log without being woken, 1 ms to 1 day. A reader of all channels is not
   * woken by each publisher. It looks every 10 to 100 ms, but not more seldom than this.
   *
   * @default {3000}
   */
  readonly pollInterval?: Duration;
  /**
   * The most notifications in one page (one read), 1 to 100000.
   *
   * @default {500}
   */
  readonly pageSize?: number;
  /**
   * The most bytes in one page, at least 1. A page may exceed this by one notification.
   *
   * @default {8388608}
   */
  readonly pageBytes?: number;
  /**
   * Called once, when the iteration has begun to read. It begins with the first step of the loop,
   * not with the call of `subscribe`. What is published from then on has `isReplay` false.
   */
  readonly onReady?: () => void;
}
