/**
 * The options of a subscription.
 *
 * @module
 */

import type { Duration } from "../duration.ts";
import type { StartFrom } from "./start.ts";

/** Notifications that cleaning removed before a subscription read them, or may have. */
export interface SubscriptionGap {
  /** The highest id that was removed. Notifications above it are not part of the gap. */
  readonly through: number;
}

/** How a subscription goes on from a position. */
export interface SubscriptionResume {
  /**
   * What was cleaned since, and may have been missed. Undefined
   * if nothing was.
   */
  readonly gap: SubscriptionGap | undefined;
  /**
   * Whether some notifications may come again. That is so if the position's marks were lost in a
   * crash, or were thinned and too long for its text.
   */
  readonly repeats: boolean;
}

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
  /** Called once, before `onReady`, if it goes on from a position: what became of that. */
  readonly onResume?: (resumed: SubscriptionResume) => void;
  /**
   * Called if cleaning has removed notifications that this subscription had not read yet, or may
   * have. Without it, a warning is logged.
   */
  readonly onGap?: (gap: SubscriptionGap) => void;
}
