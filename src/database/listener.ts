/**
 * The LISTEN connection of a process. Its start either succeeds or fails at once. After that it
 * reconnects without limit.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import { count } from "../observe/seam.ts";
import { backoff, Bell, pause } from "./bell.ts";
import type { ListenerOptions } from "./checked_connect.ts";
import { isScarce } from "./driver_error.ts";
import { counted } from "./counted.ts";
import { controlChannel, listenSql, testChannel, wakeChannel } from "./listening.ts";
import { ListeningBells } from "./listening_bells.ts";
import { arePooled } from "./pooled.ts";
import type { Queryable, QueryResult } from "./queryable.ts";
import { Session } from "./session.ts";
import { messageOf } from "./translate.ts";

const logger = getLogger(["hark", "listener"]);

/**
 * Keeps a session that LISTENs, and rings the bells that are attached to a channel. It also rings
 * them after each connect and reconnect: notifications sent before are only in the log.
 */
export class Listener {
  readonly #options: ListenerOptions;
  /** What it rings. */
  readonly bells = new ListeningBells();
  readonly #stop = new AbortController();
  readonly #tests = new Map<string, () => void>();
  readonly #losses = new Set<() => void>();
  #session: Session | undefined;
  #running: Promise<void> = Promise.resolve();
  #live = false;
  /** Whether a transaction pooler is in between: LISTEN would stay on a connection that others use. */
  #pooled = false;
  #key: bigint | undefined;
  /** When the LISTEN session was last known to LISTEN. */
  #provenAt = -Infinity;
  /** Whether the LISTEN session has told that it does not LISTEN: then it may have lost its lock, too. */
  #isDeaf = false;
  readonly #asking: Queryable;
  /** How many attempts to connect had failed when it was started. */
  #failures = 0;

  private constructor(options: ListenerOptions) {
    this.#options = options;
    this.#asking = counted(() => this.#session!, (result) => this.#answered(result));
  }

  /**
   * Connects, LISTENs, and proves with a self-test that a notification arrives.
   *
   * @param prove Sends a NOTIFY from another session. Behind a transaction pooler LISTEN succeeds
   * but receives nothing, and only a notification from another session reveals that.
   * @param scarce Called if the server has no connection free. The listener then goes on trying, and
   * readers poll until it has one.
   * @throws {HarkError} if the first connection fails for another reason.
   */
  static async start(
    options: ListenerOptions,
    prove: (channel: string, payload: string) => Promise<void>,
    scarce: (reason: Error) => void,
  ): Promise<Listener> {
    const listener = new Listener(options);
    try {
      await listener.#connect(prove);
    } catch (error) {
      if (!isScarce(error)) throw error;
      scarce(error as Error);
      listener.#failures = 1;
    }
    listener.#running = listener.#supervise(prove);
    return listener;
  }

  /** Whether LISTEN is known to deliver at the moment. If not, readers depend on polling. */
  get live(): boolean {
    return this.#live;
  }

  /**
   * The key of the advisory lock that the LISTEN session holds for as long as it lives; undefined
   * while there is no such session. Another process that finds the lock free knows that this
   * process has lost its session.
   */
  get sessionKey(): bigint | undefined {
    return this.#key;
  }

  /**
   * Runs a statement on the LISTEN session; undefined while there is no such session, or LISTEN does not
   * deliver. An answer whose column `listens` is `listensSql` saves a heartbeat. The statement
   * must not wait for others: a session that is silent for the timeout of a heartbeat counts as lost.
   */
  get session(): Queryable | undefined {
    return this.#live ? this.#asking : undefined;
  }

  /** What an answer says of the session it comes from. */
  #answered({ rows: [row] }: QueryResult): void {
    if (row?.listens === true) this.#provenAt = performance.now();
    if (row?.listens !== false) return;
    this.#isDeaf = true;
    this.bells.change.ring();
  }

  /**
   * Calls `lost` each time the session behind {@linkcode sessionKey} is lost. Returns a function
   * that removes the callback.
   */
  onLoss(lost: () => void): () => void {
    this.#losses.add(lost);
    return () => void this.#losses.delete(lost);
  }

  async #connect(prove: (channel: string, payload: string) => Promise<void>): Promise<void> {
    const options = { ...this.#options, queryTimeout: this.#options.heartbeatTimeout };
    const session = await Session.open(options);
    try {
      session.onNotification((channel, payload) => this.#heard(channel, payload));
      const { rows } = await session.query("select pg_is_in_recovery() as standby");
      if (rows[0].standby) {
        throw new HarkError("NOT_PRIMARY", "this server is a standby, where LISTEN is impossible", {
          remedy: "Connect to the primary.",
        });
      }
      this.#pooled = !session.setUp.direct && await this.#isPooled(session);
      if (!this.#pooled) {
        await session.query(listenSql);
      }
      this.#session = session;
      this.#isDeaf = false;
      const delivers = !this.#pooled && await this.#selfTest(prove);
      if (delivers) this.#key = await this.#takeKey(session);
      // Not before: if the session ends on the way, nothing may run a statement on it.
      this.#live = delivers;
    } catch (error) {
      this.#session = undefined;
      await session.close();
      throw error;
    }
    if (this.#pooled) {
      logger.error(
        "A transaction pooler is in between, through which LISTEN hears nothing. Workers only poll now. Connect " +
          "directly, so that they are woken at once, or add listen=off to the URL.",
      );
    } else if (!this.#live) {
      logger.error(
        "LISTEN succeeded, but a test notification did not arrive. Probably a transaction pooler is in " +
          "between. Workers only poll now. Connect directly, so that they are woken at once.",
      );
    }
    this.bells.ringAll();
  }

  async #isPooled(session: Session): Promise<boolean> {
    const other = await Session.open(this.#options);
    try {
      return await arePooled(session, other);
    } finally {
      await other.close();
    }
  }

  async #takeKey(session: Session): Promise<bigint> {
    for (;;) {
      const key = crypto.getRandomValues(new BigInt64Array(1))[0]!;
      const { rows } = await session.query("select pg_try_advisory_lock($1::bigint) as taken", [
        String(key),
      ]);
      if (rows[0].taken) return key;
    }
  }

  async #selfTest(prove: (channel: string, payload: string) => Promise<void>): Promise<boolean> {
    const token = crypto.randomUUID();
    const bell = new Bell();
    this.#tests.set(token, () => bell.ring());
    try {
      await prove(testChannel, token);
      return await bell.wait(0, this.#options.heartbeatTimeout, this.#stop.signal);
    } finally {
      this.#tests.delete(token);
    }
  }

  #heard(channel: string, payload: string): void {
    if (channel === testChannel) {
      this.#tests.get(payload)?.();
    } else if (channel === wakeChannel) {
      this.bells.published(payload);
    } else if (channel === controlChannel) {
      this.bells.changed(payload);
    }
  }

  async #supervise(prove: (channel: string, payload: string) => Promise<void>): Promise<void> {
    const { signal } = this.#stop;
    let failures = this.#failures;
    while (!signal.aborted) {
      const session = this.#session;
      if (session !== undefined) {
        const reason = await this.#watch(session);
        this.#live = false;
        this.#key = undefined;
        this.#session = undefined;
        for (const lost of this.#losses) lost();
        await session.close();
        if (signal.aborted) return;
        logger.warn("LISTEN connection lost: {reason}. Workers poll until it is back.", {
          reason: messageOf(reason),
        });
        this.bells.ringAll();
      }
      if (failures > 0) {
        await pause(backoff(failures, 100, this.#options.maxReconnectDelay), signal);
        if (signal.aborted) return;
      }
      try {
        await this.#connect(prove);
        count("hark.listener.reconnects", 1);
        if (failures === 0) logger.over("The LISTEN connection is back.");
        else {
          logger.over("The LISTEN connection is back after {failures} failed attempts.", {
            failures,
          });
        }
        failures = 0;
      } catch (error) {
        failures++;
        logger.warn("No LISTEN connection (attempt {failures}): {reason}", {
          failures,
          reason: messageOf(error),
        });
      }
    }
  }

  /**
   * Resolves with the reason when the session has ended, no longer listens, or does not answer a heartbeat
   * in time.
   */
  async #watch(session: Session): Promise<unknown> {
    const { signal } = this.#stop;
    const { heartbeat } = this.#options;
    const { change } = this.bells;
    void session.ended.then(() => change.ring());
    this.#provenAt = performance.now();
    while (session.alive && !signal.aborted) {
      const seen = change.count;
      if (this.#isDeaf) return new Error("the session no longer listens: something has reset it");
      if (this.bells.isQuiet) {
        await change.wait(seen, Infinity, signal);
        // A session that was silent without heartbeats may be dead.
        this.#provenAt = -Infinity;
        continue;
      }
      const now = performance.now();
      const due = this.#provenAt + heartbeat;
      if (due > now) {
        await change.wait(seen, due - now, signal);
        continue;
      }
      try {
        // LISTEN is idempotent. So one statement serves as the heartbeat and also repairs an
        // UNLISTEN.
        await session.query(this.#pooled ? "select" : listenSql);
        this.#provenAt = performance.now();
      } catch (error) {
        return error;
      }
    }
    return signal.aborted ? undefined : await session.ended;
  }

  /** Closes the connection. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#session?.close();
    this.#session = undefined;
    this.#live = false;
    this.#key = undefined;
  }
}
