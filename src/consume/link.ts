/**
 * The session that a consumer or a subscription works on, opened again whenever it is lost.
 *
 * @module
 */

import { backoff, pause } from "../database/bell.ts";
import type { Connections } from "../database/connections.ts";
import { connectionsOf } from "../database/database.ts";
import { ownConnection, type Queryable } from "../database/queryable.ts";
import { isPassing, translate, translated } from "../database/translate.ts";
import type { HarkError } from "../errors.ts";
import { requireSchema, withSchemaReason } from "../schema/migrate.ts";

/** Longer than this, in milliseconds, and a connection has worked: the next failure is a first one. */
const worked = 10_000;

/** Whether a caller's own `pg.Client` has ended. Unlike a pool, a client never connects again. */
function isOver(reason: HarkError): boolean {
  return /not queryable/.test(reason.message);
}

/** One session after the other. */
export class Link {
  /** What opens sessions. Undefined if the caller's own driver is used instead. */
  readonly connections: Connections | undefined;
  readonly #db: Queryable;
  #session: Queryable;
  #failures = 0;
  #openedAt = performance.now();

  private constructor(
    db: Queryable,
    connections: Connections | undefined,
    session: Queryable = connections?.lane() ?? db,
  ) {
    this.#db = db;
    this.connections = connections;
    this.#session = session;
  }

  /**
   * Opens the first session, which must succeed, and checks the schema.
   *
   * @param connections What opens sessions: those to the replica, where that is read.
   * @param session The first session, for a drain that may have to cut it. Otherwise one is made.
   * @param isChecked Whether the schema has been checked.
   */
  static async open(
    db: Queryable,
    connections: Connections | undefined = connectionsOf(db),
    session?: Queryable,
    isChecked: boolean = false,
  ): Promise<Link> {
    const link = new Link(db, connections, session);
    try {
      if (!isChecked) await requireSchema(link.#session);
      // A connection that is opened later may be to a server of another history.
      const lanes = link.connections?.lanes;
      if (lanes !== undefined) lanes.prepare ??= rebase;
    } catch (error) {
      await link.close();
      throw error;
    }
    return link;
  }

  /** The session as it is now, alive or not. */
  get session(): Queryable {
    return this.#session;
  }

  /** The session, opened again if it was lost. */
  alive(): Queryable {
    if (ownConnection(this.#session)?.alive === false) {
      this.#session = this.connections?.lane() ?? this.#db;
    }
    this.#openedAt = performance.now();
    return this.#session;
  }

  /** Work on the session has succeeded: the next failure is a first one. */
  worked(): void {
    this.#failures = 0;
  }

  /**
   * Work on the session has failed.
   *
   * @param report Called with what is to be logged: the reason, and how long the link waits now, in
   *   milliseconds.
   * @param most The longest wait, in milliseconds, if it is less than the database's.
   * @throws {HarkError} if it is no use to try again.
   */
  async failed(
    error: unknown,
    until: AbortSignal,
    report: (reason: HarkError, wait: number) => void,
    most: number = Infinity,
  ): Promise<void> {
    const reason = translate(error);
    if (!isPassing(reason)) throw await withSchemaReason(this.#session, reason);
    if (this.connections === undefined && isOver(reason)) throw reason;
    if (performance.now() - this.#openedAt > worked) this.#failures = 0;
    const longest = Math.min(most, this.connections?.maxReconnectDelay ?? 5000);
    const wait = Math.round(backoff(++this.#failures, 50, longest));
    report(reason, wait);
    // The server has forgotten the window, not the session.
    if (reason.code !== "WINDOW_LOST") await this.close();
    await pause(wait, until);
  }

  /** Closes the session, unless it is the caller's. */
  async close(): Promise<void> {
    await ownConnection(this.#session)?.close();
  }
}

/** Makes the log readable on a server that it was restored to. */
export async function rebase(session: Queryable): Promise<void> {
  await translated(() => session.query("select hark.rebase()"));
}
