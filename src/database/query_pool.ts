/**
 * The pool of connections for queries. It makes do with what the server gives.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { getLogger } from "../log/logger.ts";
import { backoff, pause } from "./bell.ts";
import { isScarce } from "./driver_error.ts";
import type { QueryResult } from "./queryable.ts";
import { clientConfig, cutOff, type SessionOptions } from "./session.ts";
import { runAlone, type SetUp, setUp } from "./settings.ts";
import { messageOf } from "./translate.ts";

const logger = getLogger(["hark", "database"]);

/** For how long a server that had no connection free is asked for no more, in milliseconds. */
const scarceTime = 30_000;
/** After how long without a query a connection is closed, in milliseconds. */
const idleTimeoutMillis = 30_000;

/** The pool. */
export class QueryPool {
  readonly #pool: pg.Pool;
  readonly #clients = new Set<pg.PoolClient>();
  readonly #idle = new Set<pg.PoolClient>();
  readonly #limits: Required<Pick<pg.PoolConfig, "max" | "idleTimeoutMillis">>;
  readonly #queryTimeout: number;
  readonly #scarce: (reason: Error, left: number) => void;
  #scarceUntil = -Infinity;
  #ended = false;
  /** The role that the connections log in as; undefined before the first. */
  role: string | undefined;
  /** How the connections were set up; they are all alike. */
  #setUp: SetUp | undefined;

  /**
   * @param max The most connections.
   * @param scarce Called if the server has refused a connection, with how many the pool has.
   */
  constructor(session: SessionOptions, max: number, scarce: (reason: Error, left: number) => void) {
    this.#scarce = scarce;
    this.#queryTimeout = session.queryTimeout;
    this.#limits = { max, idleTimeoutMillis };
    this.#pool = new pg.Pool({
      ...clientConfig(session),
      onConnect: async (client) => {
        this.role = (client as pg.Client).user;
        this.#setUp = await setUp(client, { queryTimeout: session.queryTimeout, shared: true });
      },
      ...this.#limits,
      // A script that does not close the database ends with its last await, not 30 s after it.
      allowExitOnIdle: true,
    });
    const ended = (error: Error) => {
      logger.debug("A connection ended: {reason}", { reason: messageOf(error) });
    };
    this.#pool.on("error", ended);
    this.#pool.on("connect", (client) => {
      this.#clients.add(client);
      client.on("error", ended);
    });
    this.#pool.on("acquire", (client) => this.#idle.delete(client));
    this.#pool.on("release", (_error, client) => this.#idle.add(client));
    this.#pool.on("remove", (client) => {
      this.#clients.delete(client);
      this.#idle.delete(client);
    });
  }

  /** How many connections it has. */
  get size(): number {
    return this.#pool.totalCount;
  }

  /** Whether a connection is idle, which the next query takes. */
  get hasIdle(): boolean {
    return this.#pool.idleCount > this.#pool.waitingCount;
  }

  /** Runs one statement on a connection, which `run` is given. */
  async query(run: (on: pg.ClientBase) => Promise<QueryResult>): Promise<QueryResult> {
    const client = await this.connect();
    let broken: Error | undefined;
    try {
      return await runAlone(client, this.#setUp!, () => run(client));
    } catch (error) {
      broken = error as Error;
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /** Takes a connection. If the server has none free, waits for one of the pool. */
  async connect(): Promise<pg.PoolClient> {
    const until = performance.now() + this.#queryTimeout;
    for (let attempt = 1;; attempt++) {
      if (performance.now() >= this.#scarceUntil) Object.assign(this.#pool.options, this.#limits);
      try {
        return await this.#pool.connect();
      } catch (error) {
        // A program that never had one is told at once.
        const isFirst = this.role === undefined;
        if (!isScarce(error) || isFirst || this.#ended || performance.now() >= until) throw error;
        this.#keep(this.#pool.totalCount);
        this.#scarce(error as Error, this.#pool.totalCount);
      }
      await pause(backoff(attempt, 20, 500));
    }
  }

  /**
   * The statement that begins a transaction of the user's. It has the isolation level that is the
   * default of the role or the database, and may write.
   */
  get begin(): string {
    const { direct, isolation, locals } = this.#setUp!;
    return `begin isolation level ${isolation} read write${direct ? "" : locals}`;
  }

  /** Closes what is idle, except one: the server has no other connection free. */
  spare(): void {
    [...this.#idle].slice(0, this.#pool.totalCount - 1).forEach(cutOff);
    this.#keep(1);
  }

  /** Closes what is idle, in order: the server may be suspended. The next query opens a connection. */
  async rest(): Promise<void> {
    const { idleCount } = this.#pool;
    for (let n = 0; n < idleCount && this.#pool.idleCount > 0; n++) {
      // Takes one that is idle. If a query was quicker, this waits for it and closes its connection.
      (await this.#pool.connect()).release(true);
    }
  }

  /** Asks for no more connections for a while, and closes none. Handlers may wait for the pool. */
  #keep(count: number): void {
    this.#scarceUntil = performance.now() + scarceTime;
    Object.assign(this.#pool.options, { max: Math.max(1, count), idleTimeoutMillis: 0 });
  }

  /** Cuts off what is idle: the network was silent, so these connections may be dead. */
  doubt(): void {
    this.#idle.forEach(cutOff);
  }

  /** Closes all connections. */
  async close(): Promise<void> {
    this.#ended = true;
    // A silent server never answers the farewell message.
    const cut = setTimeout(() => this.#clients.forEach(cutOff), 1000);
    try {
      await this.#pool.end();
    } finally {
      clearTimeout(cut);
    }
  }
}
