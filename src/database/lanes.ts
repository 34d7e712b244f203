/**
 * A few connections that all consumers and subscriptions of a database share, in fair turns.
 *
 * @module
 */

import { backoff, pause } from "./bell.ts";
import { isScarce } from "./driver_error.ts";
import { closed, Lane, type Lends } from "./lane.ts";
import type { OwnConnection } from "./queryable.ts";
import type { Session } from "./session.ts";
import { translate } from "./translate.ts";

/** How many connections are opened because statements wait, and of these, how many read pages. */
const usual = { sessions: 3, reading: 2 };
/** How many connections there are at most. Above the usual number, statements wait for long. */
const most = 8;
/**
 * For how long, in milliseconds, a statement waits before another connection is opened: up to the
 * usual number, and above it. A page or a lock may hold a connection for seconds.
 */
const wait = { usual: 20, more: 500 };
/** After how long without work a connection is closed, in milliseconds. One of them stays. */
const idleTime = 5000;
/** For how long to try to get the first connection of a server that has none free, in milliseconds. */
const patience = 1000;
/** After which time a server without a free connection is asked for one again, in milliseconds. */
const scarceTime = 30_000;

/** A statement that waits for a connection. */
interface Waiting {
  readonly reads: boolean;
  take(session: Session): void;
  fail(reason: Error): void;
}

/** What lanes are given. */
export interface LanesOptions {
  /** Opens a connection. Gives up at once when `over` aborts. */
  open(over: AbortSignal): Promise<Session>;
  /** The server has refused a connection. `left` is how many the lanes have. */
  scarce(reason: Error, left: number): void;
}

/**
 * The connections. Each statement takes the one that is free, or waits in line. So a consumer that
 * has much to read gets one turn, then every other one has its turn.
 */
export class Lanes implements Lends {
  readonly #options: LanesOptions;
  /** Called for each connection after it was opened, if set. */
  prepare: ((session: Session) => Promise<void>) | undefined;
  readonly #sessions = new Set<Session>();
  /** What is being closed. */
  readonly #closing = new Set<Promise<void>>();
  readonly #idle: { readonly session: Session; readonly since: number }[] = [];
  readonly #line: Waiting[] = [];
  #reading = 0;
  #lanes = 0;
  #opening: Promise<void> | undefined;
  /** Aborts when the last lane is closed. */
  #over = new AbortController();
  #failures = 0;
  #notBefore = -Infinity;
  #growing: ReturnType<typeof setTimeout> | undefined;
  #shrinking: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /** How many connections there are. */
  get size(): number {
    return this.#sessions.size;
  }

  /** A lane of its own for one reader. It opens no connection before its first statement. */
  lane(): OwnConnection {
    this.#lanes++;
    return new Lane(this, () => this.#left());
  }

  /** Takes a connection for one statement. Give it back. */
  async take(reads: boolean): Promise<Session> {
    const free = this.#mayRun(reads) ? this.#pop() : undefined;
    if (free !== undefined) {
      if (reads) this.#reading++;
      return free;
    }
    const { promise, resolve, reject } = Promise.withResolvers<Session>();
    this.#line.push({ reads, take: resolve, fail: reject });
    this.#grow();
    return await promise;
  }

  /** Gives a connection back after a statement. */
  give(session: Session, reads: boolean): void {
    if (reads) this.#reading--;
    if (session.alive && this.#sessions.has(session)) {
      this.#idle.push({ session, since: performance.now() });
    }
    this.#serve();
  }

  /** Closes the connections that nothing uses, except the first: the server has no other one free. */
  spare(): void {
    while (this.#sessions.size > 1) {
      const session = this.#pop();
      if (session === undefined) return;
      this.#drop(session);
    }
  }

  /** Cuts off what nothing uses: the network was silent, so these connections may be dead. */
  doubt(): void {
    for (let session; (session = this.#pop()) !== undefined;) this.#drop(session);
  }

  /** Whether a statement may run now, with a connection free. */
  #mayRun(reads: boolean): boolean {
    return !reads || this.#reading < Math.max(usual.reading, this.#sessions.size - 1);
  }

  #pop(): Session | undefined {
    for (let last; (last = this.#idle.pop()) !== undefined;) {
      if (last.session.alive) return last.session;
    }
    return undefined;
  }

  #drop(session: Session): void {
    this.#sessions.delete(session);
    const closing = session.close().then(() => void this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** Gives free connections to the statements that wait, in their order. */
  #serve(): void {
    for (;;) {
      const at = this.#line.findIndex(({ reads }) => this.#mayRun(reads));
      const session = at < 0 ? undefined : this.#pop();
      if (session === undefined) break;
      const [first] = this.#line.splice(at, 1);
      if (first!.reads) this.#reading++;
      first!.take(session);
    }
    this.#grow();
    this.#shrink();
  }

  /** Opens another connection if statements have waited. */
  #grow(): void {
    if (this.#line.length === 0) {
      clearTimeout(this.#growing);
      this.#growing = undefined;
      return;
    }
    const { size } = this.#sessions;
    if (this.#opening !== undefined) return;
    if (size === 0) return this.#open();
    if (size >= most || this.#growing !== undefined) return;
    const after = size < usual.sessions ? wait.usual : wait.more;
    const now = performance.now();
    this.#growing = setTimeout(() => {
      this.#growing = undefined;
      this.#open();
    }, Math.max(after, this.#notBefore - now));
  }

  #open(): void {
    if (this.#opening !== undefined || this.#lanes === 0) return;
    const opening = this.#opened(this.#over.signal).finally(() => {
      if (this.#opening === opening) this.#opening = undefined;
      this.#serve();
    });
    this.#opening = opening;
  }

  /** Opens a connection. If that fails, the statements that have none at all fail. */
  async #opened(over: AbortSignal): Promise<void> {
    const until = performance.now() + patience;
    for (;;) {
      // All readers ask at once after an outage: the server is asked by one of them, at intervals.
      if (this.#failures > 0) await pause(backoff(this.#failures, 50, 1000), over);
      if (over.aborted) return;
      try {
        await this.#openOne(over);
        this.#failures = 0;
        return;
      } catch (error) {
        const reason = translate(error);
        if (isScarce(reason)) this.#options.scarce(reason, this.#sessions.size);
        if (this.#sessions.size > 0) {
          this.#notBefore = performance.now() + (isScarce(reason) ? scarceTime : 1000);
          return;
        }
        this.#failures++;
        if (isScarce(reason) && performance.now() < until) continue;
        for (const one of this.#line.splice(0)) one.fail(reason);
        return;
      }
    }
  }

  async #openOne(over: AbortSignal): Promise<void> {
    const session = await this.#options.open(over);
    try {
      await this.prepare?.(session);
    } catch (error) {
      await session.close();
      throw error;
    }
    if (over.aborted) return await session.close();
    this.#sessions.add(session);
    this.#idle.push({ session, since: performance.now() });
    void session.ended.then(() => {
      this.#drop(session);
      this.#grow();
    });
  }

  #shrink(): void {
    if (this.#shrinking !== undefined || this.#sessions.size <= 1) return;
    this.#shrinking = setTimeout(() => {
      this.#shrinking = undefined;
      const before = performance.now() - idleTime;
      while (this.#sessions.size > 1 && this.#idle.length > 0 && this.#idle[0]!.since <= before) {
        this.#drop(this.#idle.shift()!.session);
      }
      this.#shrink();
    }, idleTime / 2);
  }

  async #left(): Promise<void> {
    if (--this.#lanes > 0) return;
    await this.close();
  }

  /** Closes all connections. Lanes that are left open new ones if they are used again. */
  async close(): Promise<void> {
    this.#over.abort();
    this.#over = new AbortController();
    clearTimeout(this.#growing);
    clearTimeout(this.#shrinking);
    this.#growing = this.#shrinking = undefined;
    for (const one of this.#line.splice(0)) one.fail(closed());
    this.#idle.length = 0;
    for (const session of [...this.#sessions]) this.#drop(session);
    const opening = this.#opening;
    this.#opening = undefined;
    await Promise.all([opening, ...this.#closing]);
  }
}
