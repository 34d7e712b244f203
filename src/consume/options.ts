/**
 * The options of a consumer, and their checks.
 *
 * @module
 */

import { bad, channelNames, consumerName, knownOptions, wholeNumber } from "../check.ts";
import { HarkError } from "../errors.ts";
import type { Notification } from "./notification.ts";
import { type StartFrom, startValues } from "./start.ts";
import type { WorkerOptions } from "./run.ts";

/** What a handler is given beside the notification. */
export interface HandlerContext {
  /**
   * Aborts when the result will not count any more: another worker has taken over, or stopping took
   * longer than `stopTimeout`.
   */
  readonly signal: AbortSignal;
}

/** Handles one notification; when it throws, the notification is tried again. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type Handler<Payload = any> = (
  notification: Notification<Payload>,
  context: HandlerContext,
) => unknown;

/** How a failed notification is tried again. Durations are milliseconds. */
export interface RetryOptions {
  /** The wait after the first failure; it doubles with each, less up to half at random. @default {500} */
  readonly initial?: number;
  /** The longest wait. @default {30000} */
  readonly maximum?: number;
}

/** Options of a {@linkcode Consumer}. Durations are milliseconds. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export interface ConsumerOptions<Payload = any> {
  /** The name its position is kept under, 1 to 200 characters. */
  readonly id?: string;
  /** The channels it reads: one or several. */
  readonly channels?: string | readonly string[];
  /** Called for each notification, one at a time, in order. */
  readonly handle?: Handler<Payload>;
  /**
   * Where it begins when it is registered for the first time; later runs go on from where the last
   * ended. @default {"beginning"}
   */
  readonly from?: StartFrom;
  /** How a failed notification is tried again. It is never given up; nothing overtakes it. */
  readonly retry?: RetryOptions;
  /** Called after each failed attempt. */
  readonly onError?: (error: unknown, notification: Notification<Payload>) => unknown;
  /**
   * How often to look without being woken. LISTEN wakes a consumer at once, so this is the safety net,
   * and the delay where LISTEN cannot be had. @default {3000}
   */
  readonly pollInterval?: number;
  /** The most notifications read at a time. @default {500} */
  readonly pageSize?: number;
  /** The most bytes read at a time, beyond one notification. @default {8388608} */
  readonly pageBytes?: number;
  /** Progress is stored at the latest after so many notifications. @default {1000} */
  readonly acknowledgeCount?: number;
  /** Progress is stored at the latest so long after the last time, between two notifications. @default {200} */
  readonly acknowledgeInterval?: number;
  /**
   * How long a worker that has gone silent keeps the consumer before another may take over; one whose
   * LISTEN connection ended is replaced sooner. @default {15000}
   */
  readonly lease?: number;
  /** How long `stop` waits for the handler in hand before its signal aborts. @default {30000} */
  readonly stopTimeout?: number;
}

/** Options of {@linkcode Consumer.run} and {@linkcode Consumer.drain}. */
export interface RunOptions {
  /** Stops when it aborts, as {@linkcode Consumer.stop} does. */
  readonly signal?: AbortSignal;
}

/** Rows looked at for one page: bounds the time a rare channel takes to answer. */
const scannedPerPage = 20_000;

const consumerOptionNames: readonly (keyof ConsumerOptions)[] = [
  "id",
  "channels",
  "handle",
  "from",
  "retry",
  "onError",
  "pollInterval",
  "pageSize",
  "pageBytes",
  "acknowledgeCount",
  "acknowledgeInterval",
  "lease",
  "stopTimeout",
];

/** What a run needs to know, checked. */
export interface CheckedOptions extends WorkerOptions {
  /** The channels to register. */
  readonly channels: readonly string[];
  /** Where to begin when new: kind, id, time. */
  readonly start: ReturnType<typeof startValues>;
  /** How long stopping waits for the handler in hand, in milliseconds. */
  readonly stopTimeout: number;
}

/** Checks what can be checked before `id`, `channels` and `handle` are known for good. */
export function checkOptions(o: ConsumerOptions): void {
  knownOptions("a consumer", o, consumerOptionNames);
  knownOptions("retry", o.retry ?? {}, ["initial", "maximum"]);
  for (const name of ["handle", "onError"] as const) {
    if (o[name] !== undefined && typeof o[name] !== "function") {
      bad(name, o[name], "Give a function.");
    }
  }
  if (o.id !== undefined) consumerName(o.id);
  if (o.channels !== undefined) channelNames(o.channels);
  completeOptions(o, "unnamed", ["unnamed"], () => {});
}

/** Checks all of a consumer's options and fills in the defaults. */
export function completeOptions(
  o: ConsumerOptions,
  id: unknown,
  channels: unknown,
  handle: Handler | undefined,
): CheckedOptions {
  const consumer = consumerName(id);
  if (handle === undefined) {
    throw new HarkError("BAD_OPTION", `consumer "${consumer}" has no handler`, {
      remedy: "Give handle(notification) as an option, or as a method of a subclass.",
    });
  }
  const rows = wholeNumber("pageSize", o.pageSize, 500, 1, 100_000);
  return {
    claimant: {
      consumer,
      partition: 0,
      owner: crypto.randomUUID(),
      lease: wholeNumber("lease", o.lease, 15_000, 100, 86_400_000),
    },
    channels: channelNames(channels),
    start: startValues(o.from ?? "beginning"),
    limits: {
      rows,
      bytes: wholeNumber("pageBytes", o.pageBytes, 8 * 1024 * 1024, 1),
      scanned: Math.max(scannedPerPage, rows),
    },
    pollInterval: wholeNumber("pollInterval", o.pollInterval, 3000, 1, 86_400_000),
    acknowledgeCount: wholeNumber("acknowledgeCount", o.acknowledgeCount, 1000, 1),
    acknowledgeInterval: wholeNumber("acknowledgeInterval", o.acknowledgeInterval, 200, 0),
    retryInitial: wholeNumber("retry.initial", o.retry?.initial, 500, 0, 86_400_000),
    retryMaximum: wholeNumber("retry.maximum", o.retry?.maximum, 30_000, 0, 86_400_000),
    stopTimeout: wholeNumber("stopTimeout", o.stopTimeout, 30_000, 0, 86_400_000),
    random: Math.random,
    handle: (notification: Notification, signal: AbortSignal) => handle(notification, { signal }),
    onError: o.onError,
  };
}
