/**
 * A reader's share of connections that others use too.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { attachPrepared, queryPrepared } from "./prepared.ts";
import { own, type OwnConnection, type QueryResult } from "./queryable.ts";
import type { Session } from "./session.ts";
import { translate } from "./translate.ts";

/** Lends connections for one statement each: see Lanes. */
export interface Lends {
  /** Takes a connection. `reads` says that the statement may take long. */
  take(reads: boolean): Promise<Session>;
  /** A share of its own for one reader. */
  lane(): OwnConnection;
  /** Gives it back. */
  give(session: Session, reads: boolean): void;
}

/** Why a closed connection takes no more statements. */
export function closed(): HarkError {
  return new HarkError("UNREACHABLE", "this connection has been closed");
}

/** One reader's share of the connections. It ends with the first statement whose connection ends. */
export class Lane implements OwnConnection {
  readonly [own] = true;
  patience = 1;
  readonly reading: OwnConnection;
  readonly #connections: Lends;
  readonly #leave: (() => Promise<void>) | undefined;
  /** The lane of which this one is for what may take long. */
  readonly #main: Lane | undefined;
  readonly #ended = Promise.withResolvers<Error>();
  #reason: Error | undefined;
  /** The connections of the statements that are under way. */
  readonly #using = new Set<Session>();
  #closed: Promise<void> | undefined;

  constructor(connections: Lends, leave: (() => Promise<void>) | undefined, main?: Lane) {
    this.#connections = connections;
    this.#leave = leave;
    this.#main = main;
    this.reading = main === undefined ? new Lane(connections, undefined, this) : this;
  }

  sibling(): OwnConnection {
    return this.#connections.lane();
  }

  get shared(): object {
    return this.#connections;
  }

  get alive(): boolean {
    return (this.#main ?? this).#reason === undefined;
  }

  get ended(): Promise<Error> {
    return (this.#main ?? this).#ended.promise;
  }

  async query(text: string, values: unknown[] = []): Promise<QueryResult> {
    return await this.#on((session) => session.query(text, values));
  }

  static {
    attachPrepared<Lane>(this.prototype.query, async function (text, values) {
      return await this.#on((session) => queryPrepared(session, text, values));
    });
  }

  async #on(run: (session: Session) => Promise<QueryResult>): Promise<QueryResult> {
    const { patience } = this;
    const reads = this.#main !== undefined;
    this.#mustBeAlive();
    try {
      const session = await this.#connections.take(reads);
      try {
        this.#mustBeAlive();
        session.patience = patience;
        this.#using.add(session);
        return await run(session);
      } finally {
        this.#using.delete(session);
        session.patience = 1;
        this.#connections.give(session, reads);
      }
    } catch (error) {
      const reason = translate(error);
      if (reason.code === "TIMEOUT" || reason.code === "UNREACHABLE") this.#end(reason);
      throw reason;
    }
  }

  #mustBeAlive(): void {
    const reason = (this.#main ?? this).#reason;
    if (reason !== undefined) throw reason;
  }

  #end(reason: Error): void {
    const lane = this.#main ?? this;
    lane.#reason ??= reason;
    lane.#ended.resolve(reason);
  }

  cut(): void {
    this.#end(new HarkError("TIMEOUT", "this connection was cut off: its time is over"));
    for (const session of this.#using) session.cut();
    if (this.reading !== this) this.reading.cut();
  }

  close(): Promise<void> {
    this.#end(closed());
    return this.#closed ??= this.#leave?.() ?? Promise.resolve();
  }
}
