/**
 * The options about retries.
 *
 * @module
 */

import type { Duration } from "../duration.ts";
import type { Notification } from "./notification.ts";

/** A class of errors, or the `name` of errors, such as `"TimeoutError"`. */
export type ErrorKind = (abstract new (...given: never[]) => object) | string;

/**
 * How Hark retries a failed notification. Each duration is a {@linkcode Duration}. Up to half of each
 * wait is subtracted at random.
 *
 * @example
 * ```ts
 * import type { RetryOptions } from "@hark/postgres";
 *
 * const constant: RetryOptions = { initial: "10s", factor: 1 };
 * const linear: RetryOptions = { initial: "10s", step: "10s" }; // 10 s, 20 s, 30 s, …
 * const exponential: RetryOptions = { initial: "1s", factor: 3, maximum: "1h" };
 * const some: RetryOptions = { only: ["TimeoutError", TypeError], never: [SyntaxError] };
 * ```
 */
export interface RetryOptions {
  /**
   * The wait after the first failed attempt, 0 to 366 days.
   *
   * @default {500, or `maximum` if that is less}
   */
  readonly initial?: Duration;
  /**
   * The longest wait between two attempts, 0 to 366 days. It is at least `initial`.
   *
   * @default {600000, ten minutes; or `initial` if that is more}
   */
  readonly maximum?: Duration;
  /**
   * What the wait is multiplied by with each further failure, 1 to 100. With 1 all waits are equal.
   *
   * @default {2}
   */
  readonly factor?: number;
  /** What is added to the wait with each further failure, 0 to 366 days. Give it instead of `factor`. */
  readonly step?: Duration;
  /**
   * Retry only these errors: classes, or names. A notification that failed with any other becomes a dead letter at once.
   * {@linkcode RetryAfter} is always retried. A handler's `timeout` is a `"TimeoutError"`.
   */
  readonly only?: readonly ErrorKind[];
  /**
   * Never retry these errors: classes, or names. That is so also if `only` has them: the notification becomes a dead letter at
   * once.
   */
  readonly never?: readonly ErrorKind[];
}

/**
 * Decides what follows a failed attempt: returns how long to wait, from 0 to 366 days, or `"dead"` for
 * a dead letter. The wait is taken as it is. `attempt` is 1 after the first failure. The function is
 * not called for {@linkcode RetryAfter} and {@linkcode DeadLetter}, nor after the last of
 * `maxAttempts`. If it throws or returns anything else, Hark logs it and waits as it would by default.
 *
 * @example
 * ```ts
 * import type { RetryDecision } from "@hark/postgres";
 *
 * const patient: RetryDecision = (error, attempt, { key }) =>
 *   error instanceof TypeError ? "dead" : key === "vip" ? "1s" : attempt * 10_000;
 * ```
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export type RetryDecision<Payload = any> = (
  error: unknown,
  attempt: number,
  notification: Notification<Payload>,
) => Duration | "dead";
