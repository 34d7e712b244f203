/**
 * The options of a relay.
 *
 * @module
 */

import type { ConsumerOptions } from "../consume/options.ts";
import type { Notification } from "../consume/notification.ts";
import { consumerRules } from "../consume/option_table.ts";
import { duration, number, other, type Rules } from "../option_rules.ts";
import type { Receipt, Sink } from "./sink.ts";

/** The options of a consumer that a relay has too. */
export type RelayedOptions = Pick<
  ConsumerOptions,
  | "channels"
  | "filter"
  | "from"
  | "partitions"
  | "version"
  | "retry"
  | "maxAttempts"
  | "maxWaiting"
  | "pollInterval"
  | "lease"
  | "onError"
  | "onDeadLetter"
>;

/**
 * Options of {@linkcode relay}. A relay is a consumer, so these are the consumer's:
 * `channels`, `filter`, `from`, `partitions`, `version`, `retry`, `maxAttempts`, `maxWaiting`,
 * `pollInterval`, `lease`, `onError` and `onDeadLetter`.
 */
export interface RelayOptions extends RelayedOptions {
  /** The name under which the database keeps the relay's position, 1 to 200 characters. */
  readonly id: string;
  /** The target, such as `jetStream({ stream: "ORDERS" })`. */
  readonly to: Sink;
  /**
   * The most messages that are sent and not acknowledged by the target, 1 to 10000, in this process. Of
   * a key it is one.
   *
   * @default {1000}
   */
  readonly inFlight?: number;
  /**
   * How long `stop` waits for acknowledgements of the target, 0 to 1 day. What is not acknowledged
   * by then is looked for in the target by the next run.
   *
   * @default {5000}
   */
  readonly stopTimeout?: ConsumerOptions["stopTimeout"];
  /** Called after a message was stored by the target. An error that it throws is logged. */
  onPublished?(notification: Notification, receipt: Receipt): unknown;
}

/** The rules of the options that are the relay's own. */
const own = {
  to: other("a target", "none, it must be given", (value) => typeof value === "object"),
  inFlight: number(1_000, 1, 10_000),
  stopTimeout: duration(5_000, 0, 86_400_000),
  onPublished: { kind: "function" },
} as const satisfies Rules;

const {
  id,
  channels,
  filter,
  from,
  partitions,
  version,
  retry,
  maxAttempts,
  maxWaiting,
  pollInterval,
  lease,
  onError,
  onDeadLetter,
} = consumerRules;

/** The rules of all options of a relay. */
export const relayRules = {
  id,
  channels,
  filter,
  from,
  partitions,
  version,
  retry,
  maxAttempts,
  maxWaiting,
  pollInterval,
  lease,
  onError,
  onDeadLetter,
  ...own,
} as const satisfies Rules;
