/**
 * What happens to a notification whose handler failed.
 *
 * @module
 */

import { show } from "../check.ts";
import { messageOf } from "../database/translate.ts";
import { aYear, type Duration, requiredMs } from "../duration.ts";
import { shortened, storable } from "../visible.ts";
import type { Notification } from "./notification.ts";
import type { ErrorKind, RetryDecision } from "./retry_options.ts";

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

/**
 * A handler throws this if a notification is newer than this program: a newer version of the program
 * has published it. That is no failure, so the attempt does not count and no dead letter is made. The
 * notification and later ones of its key wait until another worker, of a newer program, claims their
 * partition. Handlers of typed channels throw it by themselves.
 *
 * @example
 * ```ts
 * import { NewerVersion, type Notification } from "@hark/postgres";
 *
 * function handle({ payload }: Notification) {
 *   if (payload.version > 2) throw new NewerVersion(`version ${payload.version} is not known yet`);
 * }
 * ```
 */
export class NewerVersion extends Error {
  /** Creates the error. */
  constructor(message: string = "it needs a newer program", options: ErrorOptions = {}) {
    super(typeof message === "string" ? message : show(message), options);
    this.name = "NewerVersion";
  }
}

/**
 * A handler of Hark's own throws this if it has not tried a notification, as its target takes none now.
 * The attempt does not count. The notification and later ones of its key wait until `wait` is over.
 */
export class Postponed extends Error {
  /** How long to wait, in milliseconds. */
  readonly wait: number;

  /** Creates the error. */
  constructor(wait: number, message: string) {
    super(message);
    this.name = "Postponed";
    this.wait = Math.round(wait);
  }
}

/** When and how often a failed notification is retried. Durations are milliseconds. */
export interface RetryPolicy extends CheckedRetry {
  readonly maxAttempts: number;
  readonly random: () => number;
}

/** The option `retry`, checked and complete. */
export interface CheckedRetry {
  readonly retryInitial: number;
  readonly retryMaximum: number;
  /** By what each wait is multiplied. */
  readonly retryFactor: number;
  /** What is added to each wait instead. Undefined if the factor counts. */
  readonly retryStep: number | undefined;
  /** The errors that are retried. Undefined for all. */
  readonly retryOnly: readonly ErrorKind[] | undefined;
  /** The errors that are not retried. */
  readonly retryNever: readonly ErrorKind[];
  readonly retryDecide: RetryDecision | undefined;
}

/** What follows a failed attempt: a retry after a wait, a newer worker, or a dead letter. */
export type Verdict =
  | {
    readonly kind: "retry";
    readonly wait: number;
    readonly reason: string;
    /** Whether the handler has set the wait itself. */
    readonly asked: boolean;
    /** Why the function `retry` was of no use, if it was not. */
    readonly problem?: string;
  }
  | { readonly kind: "newer"; readonly reason: string }
  | { readonly kind: "postponed"; readonly wait: number; readonly reason: string }
  | { readonly kind: "dead"; readonly reason: string };

/** Decides what follows attempt number `attempt` (1, 2, …), which failed with `error`. */
export function verdict(
  error: unknown,
  attempt: number,
  policy: RetryPolicy,
  notification: Notification,
): Verdict {
  const reason = storable(shortened(reasonOf(error)));
  // Compared by name: a module of consumers may have imported another copy of this package.
  const { name, delay } = (error ?? {}) as { name?: unknown; delay?: unknown };
  if (error instanceof Postponed) return { kind: "postponed", wait: error.wait, reason };
  if (name === "NewerVersion") return { kind: "newer", reason };
  if (name === "DeadLetter" || attempt >= policy.maxAttempts) return { kind: "dead", reason };
  if (name === "RetryAfter" && typeof delay === "number" && delay >= 0 && delay <= aYear) {
    return { kind: "retry", wait: Math.round(delay), reason, asked: true };
  }
  const { retryOnly, retryNever, retryDecide } = policy;
  const is = (kinds: readonly ErrorKind[]) => kinds.some((kind) => isOf(kind, error, name));
  if (is(retryNever) || retryOnly !== undefined && !is(retryOnly)) return { kind: "dead", reason };
  const usual = { kind: "retry", wait: usualWait(attempt, policy), reason, asked: false } as const;
  if (retryDecide === undefined) return usual;
  try {
    const decided = retryDecide(error, attempt, notification);
    if (decided === "dead") return { kind: "dead", reason };
    const bounds = { least: 0, most: aYear, fractions: true };
    const wait = requiredMs('what retry returned, which is no "dead",', decided, bounds);
    return { ...usual, wait: Math.round(wait) };
  } catch (problem) {
    // The notification must not be lost by a fault in the function.
    return { ...usual, problem: messageOf(problem) };
  }
}

/** Errors whose message says by itself what they are. */
const plainErrors = /^(Error|HarkError|DeadLetter|RetryAfter|NewerVersion)$|^[^A-Z]|[^\w]/;

/** What an error says, after its class: `TypeError: x is not a function`. */
function reasonOf(error: unknown): string {
  const message = messageOf(error);
  if (!(error instanceof Error) || error instanceof DOMException) return message;
  // Several errors in one have no message of their own.
  if (error instanceof AggregateError && error.message === "") return message;
  const name = String(error.name);
  return plainErrors.test(name) || message.startsWith(name) ? message : `${name}: ${message}`;
}

function isOf(kind: ErrorKind, error: unknown, name: unknown): boolean {
  return typeof kind === "string" ? name === kind : error instanceof kind;
}

/**
 * The wait after an attempt, in milliseconds. It is random within the upper half of the full wait, so
 * that many workers do not return at the same moment.
 */
function usualWait(attempt: number, policy: RetryPolicy): number {
  const { retryInitial: initial, retryMaximum, retryFactor, retryStep, random } = policy;
  const grown = retryStep !== undefined ? initial + retryStep * (attempt - 1) : initial === 0
    ? 0 // times infinity, it would be no number
    : initial * retryFactor ** (attempt - 1);
  const full = Math.min(retryMaximum, grown);
  return Math.round(full / 2 + random() * full / 2);
}
