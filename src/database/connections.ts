/**
 * Hark's own connections to one database: a small pool for queries, sessions for readers, and one
 * session for LISTEN.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import type pg from "pg";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import { type CheckedConnect, checkedConnect } from "./checked_connect.ts";
import type { ConnectOptions } from "./connect_options.ts";
import { isScarce } from "./driver_error.ts";
import { HandlerSessions } from "./handler_sessions.ts";
import { Lanes } from "./lanes.ts";
import { Listener } from "./listener.ts";
import { ObservedConnections } from "./observed.ts";
import { Pending } from "./pending.ts";
import type { OwnConnection, QueryResult } from "./queryable.ts";
import { QueryPool } from "./query_pool.ts";
import { cutOff, Session } from "./session.ts";
import { messageOf } from "./translate.ts";
import { withoutEffect } from "./url.ts";

const logger = getLogger(["hark", "database"]);

/** The connections behind a `Database`. */
export class Connections {
  /** The pool for queries that need no connection of their own. */
  readonly pool: QueryPool;
  /** What all consumers and subscriptions share. */
  readonly lanes: Lanes;
  /** What transactional handlers share. */
  readonly handlerSessions: HandlerSessions;
  readonly #checked: CheckedConnect;
  readonly #closing = new Map<() => Promise<void>, () => string | undefined>();
  #listener: Promise<Listener> | undefined;
  readonly #observed: ObservedConnections;
  #closed: Promise<void> | undefined;
  readonly #pending = new Pending();
  #ended = false;
  #isScarce = false;

  /** Checks the options. Does not connect yet. */
  constructor(url: string, options: ConnectOptions) {
    this.#checked = checkedConnect(url, options);
    const { session, queryTimeout } = this.#checked;
    for (const [name, instead] of withoutEffect(url)) {
      logger.warn("The parameter {name} of the database URL has no effect. {instead}", {
        name,
        instead,
      });
    }
    this.pool = new QueryPool(
      { ...session, queryTimeout },
      this.#checked.poolSize,
      (reason, left) => this.#scarce(reason, left, "queries"),
    );
    this.lanes = new Lanes({
      open: (over) => this.session(over),
      scarce: (reason, left) => this.#scarce(reason, left, "consumers and subscriptions"),
    });
    this.handlerSessions = new HandlerSessions({
      // For the user's statements, which may take as long as a query of the pool.
      open: async (over) => {
        this.#mustBeOpen();
        return await Session.open({ ...session, queryTimeout, shared: true }, over);
      },
      scarce: (reason, left) => this.#scarce(reason, left, "transactional handlers"),
    });
    this.#observed = new ObservedConnections(
      [this.pool, this.lanes, this.handlerSessions],
      this.#checked.listen,
    );
  }

  /** Runs one statement on a connection of the pool, which `run` is given. */
  async query(run: (on: pg.ClientBase) => Promise<QueryResult>): Promise<QueryResult> {
    return await this.#pending.run(() => this.pool.query(run));
  }

  /** Runs one statement on the pool, which `over` ends at once. It takes no longer than one of a session. */
  async queryUntil(
    over: AbortSignal | undefined,
    text: string,
    values: unknown[],
  ): Promise<QueryResult> {
    return await this.query(async (on) => {
      const cut = () => cutOff(on);
      over?.addEventListener("abort", cut);
      try {
        over?.throwIfAborted();
        return await on.query({
          text,
          values,
          ...{ query_timeout: this.#checked.session.queryTimeout },
        });
      } finally {
        over?.removeEventListener("abort", cut);
      }
    });
  }

  /** Runs work on the pool that {@linkcode Connections.close} waits for. */
  async working<T>(work: () => Promise<T>): Promise<T> {
    return await this.#pending.run(work);
  }

  /** Closes what nothing uses: a consumer sleeps. Never fails, and need not be awaited. */
  async rest(): Promise<void> {
    try {
      await Promise.all([this.handlerSessions.spare(), this.pool.rest()]);
    } catch (reason) {
      logger.debug("Could not close an idle connection: {reason}", { reason: messageOf(reason) });
    }
  }

  /** Makes room on a server that has no connection free, and says so once. */
  #scarce(reason: Error, left: number, what: string): void {
    this.lanes.spare();
    void this.handlerSessions.spare();
    if (what !== "queries") this.pool.spare();
    if (this.#isScarce) return;
    this.#isScarce = true;
    logger.warn(
      "The server gives this program no more connections: {reason}. Hark goes on with those it has, {left} for " +
        "{what}, and is slower. Raise the limit of the role, the database or the server, or run fewer programs",
      { reason: messageOf(reason), left, what },
    );
  }

  /** The longest wait between two tries to connect again, in milliseconds. */
  get maxReconnectDelay(): number {
    return this.#checked.listening.maxReconnectDelay;
  }

  /** Opens a connection for one owner. The caller closes it. */
  async session(over?: AbortSignal): Promise<Session> {
    this.#mustBeOpen();
    return await Session.open(this.#checked.session, over);
  }

  /** Whether readers LISTEN. */
  get letsListen(): boolean {
    return this.#checked.listen;
  }

  /** Opens a connection where this process LISTENs. The caller closes it. */
  async listenSession(): Promise<Session> {
    this.#mustBeOpen();
    return await Session.open(this.#checked.listening);
  }

  /** A share of the connections that consumers and subscriptions have in common. The caller closes it. */
  lane(): OwnConnection {
    this.#mustBeOpen();
    return this.lanes.lane();
  }

  /**
   * Returns the shared LISTEN connection, which the first call starts; undefined if `listen` is
   * off.
   *
   * @throws {HarkError} if the connection cannot be started.
   */
  async listener(): Promise<Listener | undefined> {
    if (!this.#checked.listen) return undefined;
    this.#mustBeOpen();
    this.#listener ??= this.#startListener();
    try {
      return await this.#listener;
    } catch (error) {
      this.#listener = undefined;
      throw error;
    }
  }

  async #startListener(): Promise<Listener> {
    let started = false;
    const listener = await Listener.start(
      this.#checked.listening,
      async (channel, payload) => {
        // The reader that starts it has just used the lanes. Later a connection of its own: after a silent
        // line those of lanes and pool may be half-open, and each would first have to time out.
        const session = started ? await this.#another() : this.lane();
        try {
          await session.query("select pg_notify($1::text, $2::text)", [channel, payload]);
        } finally {
          await session.close();
        }
      },
      (reason) => this.#scarce(reason, 0, "LISTEN"),
    );
    started = true;
    this.#observed.listener = listener;
    // A silent line or a restart that ended the LISTEN connection has most likely ended the pool's
    // connections too. The next query on one of them would only find out by its timeout.
    listener.onLoss(() => {
      this.pool.doubt();
      this.lanes.doubt();
    });
    return listener;
  }

  /** A connection for one statement. If the server has no other one free, one that consumers share. */
  async #another(): Promise<OwnConnection> {
    try {
      return await Session.open(this.#checked.session);
    } catch (error) {
      if (!isScarce(error)) throw error;
      this.#scarce(error as Error, 0, "a test of LISTEN");
      return this.lane();
    }
  }

  /**
   * Registers a function that `close` calls first, such as one that ends a running consumer.
   *
   * @param running Names it for a warning; undefined if its end was requested already.
   * @returns A function that removes the registered one again.
   */
  beforeClose(
    end: () => Promise<void>,
    running: () => string | undefined = () => undefined,
  ): () => void {
    this.#closing.set(end, running);
    return () => void this.#closing.delete(end);
  }

  /** Warns of what still runs when a scope ends: most likely a `run()` that nothing awaits. */
  warnOfRunning(): void {
    const running = [...this.#closing.values()].map((name) => name())
      .filter((name) => name !== undefined);
    if (running.length === 0) return;
    logger.warn(
      "the scope of a database ended while {running} still ran, which is stopped now. " +
        "Await run(), or await stop() before the scope ends",
      { running: running.join(", ") },
    );
  }

  #mustBeOpen(): void {
    if (this.#ended) {
      throw new HarkError("UNREACHABLE", "this database has been closed", {
        remedy: "Connect again.",
      });
    }
  }

  /** Stops everything that runs on these connections, then closes all of them. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    await Promise.allSettled([...this.#closing.keys()].map((end) => end()));
    await this.#pending.ended();
    this.#ended = true;
    this.#observed.end();
    const listener = await this.#listener?.catch(() => undefined);
    await listener?.close();
    await this.lanes.close();
    await this.handlerSessions.spare();
    await this.pool.close();
  }
}
