/**
 * The condition of one endpoint: whether it is asked now, and what its answers lead to.
 *
 * @module
 */

import { Postponed } from "../../consume/retry.ts";
import { aDay } from "../../duration.ts";
import { named } from "./named.ts";

/** After how long without an answer an endpoint is asked nothing further, in milliseconds. */
const slow = 2_000;
/** The first and the longest pause after a failure, in milliseconds. */
const pauses = [1_000, 300_000] as const;
/** After how long an endpoint that has no room is asked again, in milliseconds. */
const soon = 500;
/** After how long without a request failures begin anew, in milliseconds. */
const quiet = aDay;
/** By how much longer a message waits at most, so that not all come at once, in milliseconds. */
const spread = 2_000;

/** What is known of an endpoint that fails. */
export interface Failing {
  readonly disabled: boolean;
  /** How many failures there were in a row. */
  readonly failures: number;
  /** Since when, by `performance.now()`. */
  readonly since: number;
  /** When it is asked again, by `performance.now()`. */
  readonly until: number;
  /** The status of the last answer. Undefined if none came. */
  readonly status: number | undefined;
  readonly reason: string;
}

/** What an endpoint's answer means, besides what it means for the message. */
export interface Failure {
  readonly status: number | undefined;
  readonly reason: string;
  /** How long the endpoint asks to be left alone, in milliseconds. */
  readonly wait?: number | undefined;
  /** Whether it wants no more. */
  readonly isGone?: boolean;
}

/** The condition of an endpoint, as this process knows it. */
export class Condition {
  readonly #name: string;
  readonly #limits: {
    readonly perEndpoint: number;
    readonly timeout: number;
    readonly disableAfter: number;
  };
  readonly #random: () => number;
  /** When each request under way began, the oldest first. */
  readonly #begun = new Set<{ readonly at: number }>();
  /** Undefined if the last answer was a success. */
  failing: Failing | undefined;

  constructor(
    name: string,
    limits: {
      readonly perEndpoint: number;
      readonly timeout: number;
      readonly disableAfter: number;
    },
    random: () => number = Math.random,
  ) {
    this.#name = name;
    this.#limits = limits;
    this.#random = random;
  }

  /** Whether nothing is under way, and nothing failed. */
  get isIdle(): boolean {
    return this.#begun.size === 0 && this.failing === undefined;
  }

  /**
   * Begins a request. Call the result when it has ended.
   *
   * @throws {Postponed} If the endpoint is to be left alone now. Its messages must not hold up others.
   */
  begin(now: number): () => void {
    const [oldest] = this.#begun;
    const { failing } = this;
    if (failing !== undefined && now < failing.until) {
      throw this.#postponed(failing.until - now, failing.reason);
    }
    if (oldest !== undefined && (failing !== undefined || now - oldest.at > slow)) {
      const left = oldest.at + this.#limits.timeout - now;
      const wait = failing === undefined ? left : Math.min(left, soon);
      throw this.#postponed(Math.max(soon, wait), "it has not answered yet");
    }
    if (this.#begun.size >= this.#limits.perEndpoint) {
      throw this.#postponed(soon, `${this.#begun.size} requests to it are under way`);
    }
    const request = { at: now };
    this.#begun.add(request);
    return () => this.#begun.delete(request);
  }

  #postponed(wait: number, why: string): Postponed {
    const more = this.#random() * Math.min(wait, spread);
    return new Postponed(wait + more, named(this.#name, `waits: ${why}`));
  }

  /** An answer was a success. Returns whether that is news. */
  succeeded(): boolean {
    const isNews = this.failing !== undefined && !this.failing.disabled;
    if (isNews) this.failing = undefined;
    return isNews;
  }

  /** Whether it is disabled if a request that began at a time has failed. */
  isOverdue(begunAt: number, now: number): boolean {
    return now - (this.#earlier(begunAt)?.since ?? begunAt) >= this.#limits.disableAfter;
  }

  /**
   * The failures before a request that began at a time. None if nothing was posted for long: what an
   * endpoint did then is not known, and two failures of a week are no failure for a week.
   */
  #earlier(begunAt: number): Failing | undefined {
    const { failing } = this;
    const most = Math.min(quiet, this.#limits.disableAfter);
    return failing === undefined || begunAt - failing.until >= most ? undefined : failing;
  }

  /** A request that began at a time has failed, and not for its message's sake. */
  failed(begunAt: number, now: number, { status, reason, wait, isGone = false }: Failure): void {
    if (this.failing?.disabled) return;
    const failing = this.#earlier(begunAt);
    // Requests that were under way together count once.
    const isAnother = failing === undefined || begunAt >= failing.until;
    const failures = (failing?.failures ?? 0) + (isAnother ? 1 : 0);
    const since = failing?.since ?? begunAt;
    const pause = wait ?? Math.min(pauses[0] * 2 ** (failures - 1), pauses[1]);
    this.failing = {
      disabled: isGone || this.isOverdue(begunAt, now),
      failures,
      since,
      until: isAnother || wait !== undefined ? now + pause : failing.until,
      status,
      reason,
    };
  }
}
