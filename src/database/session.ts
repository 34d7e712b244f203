/**
 * One connection of Hark's own: a `pg.Client` that reports its own end.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { longestTimer } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { attachPrepared } from "./prepared.ts";
import { Preparing } from "./preparing.ts";
import { own, type OwnConnection, type QueryResult } from "./queryable.ts";
import { runAlone, type SetUp, setUp } from "./settings.ts";
import { translate } from "./translate.ts";

/** Options of a session. */
export interface SessionOptions {
  /** The URL of the database. */
  readonly url: string;
  /** The timeout for connecting, in milliseconds. */
  readonly connectTimeout: number;
  /** The timeout for one query, in milliseconds. After a timeout the session is closed. */
  readonly queryTimeout: number;
  /** The `application_name` of the connection, as in `pg_stat_activity`. */
  readonly applicationName: string;
  /** Whether it is for transactions in which statements of the user's run. @default {false} */
  readonly shared?: boolean;
}

/** The configuration of a `pg.Client` for these options. */
export function clientConfig(options: SessionOptions): pg.ClientConfig {
  return {
    connectionString: options.url,
    connectionTimeoutMillis: options.connectTimeout,
    query_timeout: options.queryTimeout,
    application_name: options.applicationName,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
}

/**
 * Closes a client's socket without the farewell message, which a silent server would never answer.
 */
export function cutOff(client: pg.ClientBase): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream
    .destroy();
}

/**
 * A connection with one owner, so that its LISTEN and its transactions belong to that owner.
 */
export class Session implements OwnConnection {
  readonly [own] = true;
  readonly #client: pg.Client;
  readonly #queryTimeout: number;
  /** How many times the usual timeout a query gets from now on. */
  patience = 1;
  readonly #ended = Promise.withResolvers<Error>();
  #closed: Promise<void> | undefined;
  /** Why the connection can no longer be used; undefined while it can. */
  #reason: Error | undefined;
  readonly #preparing = new Preparing();
  #setUp: SetUp | undefined;
  readonly #shared: boolean;
  /** Resolves when the running query has ended. */
  #running: Promise<void> | undefined;

  private constructor(client: pg.Client, { queryTimeout, shared = false }: SessionOptions) {
    this.#client = client;
    this.#queryTimeout = queryTimeout;
    this.#shared = shared;
    client.on("error", (error) => this.#end(error));
    client.on("end", () => this.#end(new Error("Connection terminated")));
  }

  /**
   * Opens a session with the settings that Hark needs.
   *
   * @param over Ends the attempt at once when it aborts.
   * @throws {HarkError} `UNREACHABLE`, `TIMEOUT`.
   */
  static async open(options: SessionOptions, over?: AbortSignal): Promise<Session> {
    const client = new pg.Client(clientConfig(options));
    const session = new Session(client, options);
    const cut = () => cutOff(client);
    over?.addEventListener("abort", cut, { once: true });
    try {
      await client.connect();
      session.#setUp = await setUp(client, { ...options, shared: session.#shared });
    } catch (error) {
      session.#end(translate(error));
      await session.close();
      throw translate(error);
    } finally {
      over?.removeEventListener("abort", cut);
    }
    return session;
  }

  /** Itself: its owner runs one statement at a time. */
  get reading(): OwnConnection {
    return this;
  }

  /** Itself: nothing else uses it. */
  get shared(): object {
    return this;
  }

  /** How the session was set up. */
  get setUp(): SetUp {
    return this.#setUp!;
  }

  /** Whether the connection is believed to be up. */
  get alive(): boolean {
    return this.#reason === undefined;
  }

  /** Resolves with the reason once the connection has ended for any reason. */
  get ended(): Promise<Error> {
    return this.#ended.promise;
  }

  /** Registers a listener for each NOTIFY that arrives. */
  onNotification(listener: (channel: string, payload: string) => void): void {
    this.#client.on("notification", (message) => listener(message.channel, message.payload ?? ""));
  }

  /**
   * Runs one statement, after the statements that were requested earlier. A query that timed out
   * leaves the connection in an unknown state, so the session is closed.
   */
  query(text: string, values: unknown[] = []): Promise<QueryResult> {
    return this.#inTurn(() =>
      this.#alone(() => this.#client.query({ text, values, ...this.#timeout }))
    );
  }

  static {
    attachPrepared<Session>(this.prototype.query, function (text, values) {
      return this.#inTurn(() =>
        this.#alone(() => this.#preparing.query(this.#client, text, values, this.#timeout))
      );
    });
  }

  #alone(run: () => Promise<QueryResult>): Promise<QueryResult> {
    return this.#setUp?.alone && !this.#shared ? runAlone(this.#client, this.#setUp, run) : run();
  }

  get #timeout(): { query_timeout?: number } {
    if (this.patience === 1) return {};
    return { query_timeout: Math.min(this.#queryTimeout * this.patience, longestTimer) };
  }

  /**
   * Gives the driver one query at a time, because its timeout counts from the moment it receives
   * the query. If no query runs, the next one starts synchronously.
   */
  async #inTurn(run: () => Promise<QueryResult>): Promise<QueryResult> {
    while (this.#running !== undefined) {
      await this.#running;
      // The query it waited for may have ended the connection.
      if (this.#reason instanceof HarkError) throw this.#reason;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#running = promise;
    try {
      return await run();
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#running = undefined;
      resolve();
    }
  }

  #failed(error: unknown): Error {
    const translated = translate(error, this.#client.user);
    if (translated.code === "TIMEOUT" || translated.code === "UNREACHABLE") {
      this.#end(translated);
      void this.close();
    }
    return translated;
  }

  #end(reason: Error): void {
    this.#reason ??= reason;
    this.#ended.resolve(reason);
  }

  /** Ends the connection at once, with the statement that is under way. */
  cut(): void {
    this.#end(new HarkError("TIMEOUT", "the statement was cut off: its time is over"));
    void this.close();
  }

  /** Closes the connection. A dead or silent connection is cut off after a moment. Never fails. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    const dead = !this.alive;
    this.#end(new Error("closed"));
    if (dead) cutOff(this.#client);
    const cut = setTimeout(() => cutOff(this.#client), 1000);
    try {
      await this.#client.end();
    } catch {
      // The connection had ended already, which is the goal.
    } finally {
      clearTimeout(cut);
      cutOff(this.#client);
    }
  }
}
