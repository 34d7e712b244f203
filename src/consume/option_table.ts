/**
 * The options of readers with their kinds, defaults and bounds. `options.ts` says what each does.
 *
 * @module
 */

import { aDay, aYear, longestTimer } from "../duration.ts";
import {
  aFunction,
  duration,
  either,
  number,
  oneOf,
  other,
  required,
  type Rules,
  type Values,
} from "../option_rules.ts";
import type { KeyLimitOptions, LimitOptions, RateOptions } from "./limit_options.ts";
import type { ConsumerOptions } from "./options.ts";
import type { RetryOptions } from "./retry_options.ts";
import type { DrainOptions, RunOptions } from "./run_options.ts";
import type { SubscribeOptions } from "./subscribe_options.ts";

const channels = "one or several";
const start = '`"beginning"`, `"now"`, `{ id }`, `{ time }`';
const functions = other(
  "a function, or a list of them",
  "none",
  (value) => typeof value === "function" || Array.isArray(value),
);

/** The options of a consumer. */
export const consumerRules = {
  id: other("1 to 200 characters", "required"),
  channels: other(channels, "required, unless `handle` is `on(…)`"),
  filter: other("`ConsumerFilter`"),
  handle: aFunction,
  handleBatch: aFunction,
  around: functions,
  aroundBatch: functions,
  batchSize: number(100, 1, 10_000),
  from: other(`${start}, \`{ position }\``, '`"beginning"`'),
  partitions: number(1, 1, 1024),
  version: number(0, 0, 2_147_483_647),
  concurrency: number(1, 1, 10_000),
  limits: other("`LimitOptions`"),
  transactional: either(false),
  timeout: duration(undefined, 1, longestTimer),
  retry: other(
    "`RetryOptions`, or a function",
    "none",
    (value) => typeof value === "function" || typeof value === "object",
  ),
  maxAttempts: { ...number(20, 1, 1_000_000_000), endless: true as const },
  maxCrashes: number(4, 4, 1000),
  onFailure: oneOf("wait", "block"),
  maxWaiting: number(10_000, 1, 1_000_000),
  onHandled: aFunction,
  onError: aFunction,
  onDeadLetter: aFunction,
  pollInterval: duration(3000, 1, aDay),
  idle: oneOf("poll", "sleep"),
  idleAfter: duration(60_000, 100, aDay),
  pageSize: number(500, 1, 100_000),
  pageBytes: number(8 * 1024 * 1024, 1),
  readAhead: number(4000, 1, 1_000_000),
  readAheadBytes: number(16 * 1024 * 1024, 1),
  acknowledgeCount: number(4000, 1),
  acknowledgeInterval: duration(200, 0, aDay),
  lease: duration(15_000, 100, aDay),
  stopTimeout: duration(30_000, 0, aDay),
} satisfies Rules & Record<keyof ConsumerOptions, unknown>;

const errors = "classes or names of errors";

/** The option `retry`. */
export const retryRules = {
  initial: duration(500, 0, aYear),
  maximum: duration(600_000, 0, aYear),
  factor: { ...number(2, 1, 100), fractions: true as const },
  step: duration(undefined, 0, aYear),
  only: other(errors, "all"),
  never: other(errors),
} satisfies Rules & Record<keyof RetryOptions, unknown>;

/** The option `limits`. */
export const limitRules = {
  perKey: other("`KeyLimitOptions`"),
  rate: other("`RateOptions`"),
  by: aFunction,
} satisfies Rules & Record<keyof LimitOptions, unknown>;

/** The option `limits.perKey`. */
export const keyLimitRules = {
  concurrency: number(undefined, 1, 10_000),
  rate: other("`RateOptions`"),
} satisfies Rules & Record<keyof KeyLimitOptions, unknown>;

/** A rate in the option `limits`. */
export const rateRules = {
  count: required(number(undefined, 1, 1_000_000_000)),
  per: required(duration(undefined, 1, aDay)),
} satisfies Rules & Record<keyof RateOptions, unknown>;

/** The options of a run. */
export const runRules = {
  signal: other("an `AbortSignal`"),
} satisfies Rules & Record<keyof RunOptions, unknown>;

/** The options that a drain has beside those of a run. */
export const drainRules = {
  limit: number(undefined, 1),
  deadline: duration(undefined, 1, longestTimer),
  wait: either(true),
} satisfies Rules & Record<Exclude<keyof DrainOptions, keyof RunOptions>, unknown>;

/** The options of `subscribe`. */
export const subscribeRules = {
  from: other(`${start}, \`{ position }\``, '`"now"`'),
  follow: either(true),
  signal: runRules.signal,
  pollInterval: consumerRules.pollInterval,
  pageSize: consumerRules.pageSize,
  pageBytes: consumerRules.pageBytes,
  onReady: aFunction,
  onResume: aFunction,
  onGap: aFunction,
} satisfies Rules & Record<keyof SubscribeOptions, unknown>;

/** The options of a consumer that the table has a default for, checked. Durations are milliseconds. */
export type ConsumerValues = Values<typeof consumerRules>;
