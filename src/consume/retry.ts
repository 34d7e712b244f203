/**
 * What happens to a notification whose handler failed.
 *
 * @module
 */

import { show } from "../check.ts";
import { backoff } from "../database/bell.ts";
import { messageOf } from "../database/translate.ts";
import { aYear, type Duration, requiredMs } from "../duration.ts";

/**
 * A handler throws this to give a notification up at once. The notification becomes a dead letter,
 * with the message.
 *
 * @example
 * ```ts
 * import { DeadLetter, type Notification } from "@hark/postgres";
 *
 * function handle({ payload }: Notification) {
 *   if (payload.version !== 1) throw new DeadLetter(`version ${payload.version} is not known`);
 * }
 * ```
 */
export class DeadLetter extends Error {
  /** Creates the error. */
  constructor(message: string = "its handler gave it up", options: ErrorOptions = {}) {
    // Such as the error that the handler has caught.
    super(typeof message === "string" ? message : show(message), options);
    this.name = "DeadLetter";
  }
}

/**
 * A handler throws this to set when the notification is retried. The attempt counts as failed.
 *
 * @example
 * ```ts
 * import { RetryAfter } from "@hark/postgres";
 *
 * async function handle() {
 *   const response = await fetch("https://example.com/hook", { method: "POST" });
 *   if (response.status !== 429) return;
 *   const after = response.headers.get("retry-after") ?? ""; // seconds, or a date
 *   const wait = Number(after) * 1000 || Date.parse(after) - Date.now();
 *   throw new RetryAfter(wait > 0 ? wait : "1s");
 * }
 * ```
 */
export class RetryAfter extends Error {
  /** How long to wait, in milliseconds. */
  readonly delay: number;

  /**
   * Creates the error.
   *
   * @param delay From 0 to 366 days.
   * @throws {HarkError} `BAD_OPTION` for any other delay.
   */
  constructor(delay: Duration, message?: string, options: ErrorOptions = {}) {
    const ms = requiredMs("the delay of RetryAfter", delay, {
      least: 0,
      most: aYear,
      fractions: true,
    });
    super(message ?? `its handler asked for a retry after ${ms} ms`, options);
    this.name = "RetryAfter";
    this.delay = ms;
  }
}

/** When and how often a failed notification is retried. Durations are milliseconds. */
export interface RetryPolicy {
  readonly retryInitial: number;
  readonly retryMaximum: number;
  readonly maxAttempts: number;
  readonly random: () => number;
}

/** What follows a failed attempt: a retry after a wait, or a dead letter. */
export type Verdict =
  | {
    readonly kind: "retry";
    readonly wait: number;
    readonly reason: string;
    /** Whether the handler has set the wait itself. */
    readonly asked: boolean;
  }
  | { readonly kind: "dead"; readonly reason: string };

/** Decides what follows attempt number `attempt` (1, 2, …), which failed with `error`. */
export function verdict(error: unknown, attempt: number, policy: RetryPolicy): Verdict {
  const reason = messageOf(error).replaceAll("\0", "\uFFFD").toWellFormed();
  // Compared by name: a module of consumers may have imported another copy of this package.
  const { name, delay } = (error ?? {}) as { name?: unknown; delay?: unknown };
  if (name === "DeadLetter" || attempt >= policy.maxAttempts) return { kind: "dead", reason };
  const asked = name === "RetryAfter" && typeof delay === "number" && delay >= 0 && delay <= aYear;
  const wait = asked
    ? delay
    : backoff(attempt, policy.retryInitial, policy.retryMaximum, policy.random);
  return { kind: "retry", wait: Math.round(wait), reason, asked };
}
