/**
 * Connections for handlers' transactions, shared by all transactional consumers of a database.
 *
 * @module
 */

import { backoff, Bell } from "./bell.ts";
import { isScarce } from "./driver_error.ts";
import type { Session } from "./session.ts";
import { translate } from "./translate.ts";

/** After how long without work a connection is closed, in milliseconds. */
const idleTime = 10_000;
/** After which time a server without a free connection is asked for one again, in milliseconds. */
const scarceTime = 30_000;

/** What opens the connections: see Connections. */
export interface HandlerSessionsOptions {
  /** Opens a connection. The attempt ends when `over` aborts. */
  open(over: AbortSignal): Promise<Session>;
  /** The server has refused a connection. `left` is how many there are for handlers. */
  scarce(reason: Error, left: number): void;
}

/** The connections. A handler that finds none free opens one, or waits if the server refuses that. */
export class HandlerSessions {
  readonly #options: HandlerSessionsOptions;
  readonly #open = new Set<Session>();
  readonly #idle: { readonly session: Session; readonly since: number }[] = [];
  readonly #used = new WeakSet<Session>();
  readonly #free = new Bell();
  #closing: ReturnType<typeof setTimeout> | undefined;
  #users = 0;
  #notBefore = -Infinity;

  constructor(options: HandlerSessionsOptions) {
    this.#options = options;
  }

  /** How many connections there are. */
  get size(): number {
    return this.#open.size;
  }

  /** A transactional consumer begins. Returns what to call at its end. */
  join(): () => Promise<void> {
    this.#users++;
    return async () => {
      if (--this.#users === 0) await this.spare();
    };
  }

  /**
   * Takes a connection for one transaction. Waits while the server has none free.
   *
   * @param until Aborts when the transaction must no longer begin. A connection that is still opening
   *   is then kept for the next one: with a short timeout and a slow server none would ever be open.
   * @param over Ends the opening too. `until` aborts with it.
   * @throws {HarkError} if it cannot be opened for another reason, or the reason of `until`.
   */
  async take(until: AbortSignal, over: AbortSignal): Promise<Session> {
    for (let attempt = 1;; attempt++) {
      until.throwIfAborted();
      const seen = this.#free.count;
      for (let last; (last = this.#idle.pop()) !== undefined;) {
        if (last.session.alive) return last.session;
        await this.discard(last.session);
      }
      // Each attempt costs the server a process, so handlers wait for each other instead.
      const now = performance.now();
      if (this.#open.size > 0 && now < this.#notBefore) {
        await this.#free.wait(seen, this.#notBefore - now, until);
        continue;
      }
      try {
        const session = await this.#options.open(over);
        this.#open.add(session);
        if (!until.aborted) return session;
        this.give(session);
        continue;
      } catch (error) {
        over.throwIfAborted();
        const reason = translate(error);
        if (!isScarce(reason) || until.aborted) throw reason;
        this.#notBefore = performance.now() + scarceTime;
        this.#options.scarce(reason, this.#open.size);
      }
      await this.#free.wait(seen, backoff(attempt, 50, 1000), until);
    }
  }

  /** Whether a handler has run on this connection. From then on the answer is yes. */
  wasUsed(session: Session): boolean {
    const before = this.#used.has(session);
    this.#used.add(session);
    return before;
  }

  /** Gives a connection back, outside a transaction. */
  give(session: Session): void {
    this.#idle.push({ session, since: performance.now() });
    this.#free.ring();
    this.#closeLater();
  }

  /** Closes a connection that cannot be used again. */
  async discard(session: Session): Promise<void> {
    this.#open.delete(session);
    await session.close();
    this.#free.ring();
  }

  /** Closes what nothing uses. */
  async spare(): Promise<void> {
    clearTimeout(this.#closing);
    this.#closing = undefined;
    await Promise.all(this.#idle.splice(0).map(({ session }) => this.discard(session)));
  }

  #closeLater(): void {
    this.#closing ??= setTimeout(() => {
      this.#closing = undefined;
      const before = performance.now() - idleTime;
      while (this.#idle.length > 0 && this.#idle[0]!.since <= before) {
        void this.discard(this.#idle.shift()!.session);
      }
      if (this.#idle.length > 0) this.#closeLater();
    }, idleTime / 2);
  }
}
