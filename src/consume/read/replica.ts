/**
 * How far a replica can be read. It can be read between marks, which only the primary cuts. So one look
 * at the replica for all readers tells which marks are there. If it shows something that no mark sees,
 * the primary is asked for one.
 *
 * @module
 */

import { Bell } from "../../database/bell.ts";
import type { Connections } from "../../database/connections.ts";
import { connectionsOf, replicaConnectionsOf } from "../../database/database.ts";
import { queryPrepared } from "../../database/prepared.ts";
import type { Queryable } from "../../database/queryable.ts";
import type { ReplicaConnections } from "../../database/replica.ts";
import { messageOf, translate, translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { getLogger } from "../../log/logger.ts";
import { Link } from "../link.ts";
import { isLater, type Mark, markOf } from "../state/position.ts";
import { Cutter } from "./cutter.ts";
import { LagWatch } from "./lag_watch.ts";
import type { MarkSource } from "./mark_source.ts";
import { pace } from "./pace.ts";

const logger = getLogger(["hark", "replica"]);

/** For how long the replica is looked at after the last reader has left, in milliseconds. */
const linger = 10_000;
/** How long a reader that starts waits for a mark, in milliseconds. */
const patience = 15_000;
/** The time between two looks while a mark is awaited, in milliseconds. */
const briefly = { first: 2, most: 50 };

const lookSql = `select hark.content_of(l.mark) as mark, l.standby, l.has_new, l.rebased, l.lag_ms
from hark.look_here() l`;

/** What a look told. */
interface Look {
  /** When it was begun, by `performance.now()`. */
  readonly at: number;
  readonly standby: boolean;
  /** Whether something can be seen that the newest mark does not see. */
  readonly hasNew: boolean;
}

const known = new WeakMap<ReplicaConnections, Replica>();

/** The replica of a database, which all its readers share. Undefined if it has none. */
export function replicaOf(db: Queryable): Replica | undefined {
  const given = replicaConnectionsOf(db);
  if (given === undefined) return undefined;
  const replica = known.get(given) ?? new Replica(db, connectionsOf(db)!, given);
  known.set(given, replica);
  return replica;
}

/** Looks at a replica, for as long as it has readers. */
export class Replica implements MarkSource {
  readonly connections: Connections;
  readonly #db: Queryable;
  readonly #shown: string;
  readonly #cutter: Cutter;
  readonly #lag: LagWatch;
  readonly #bells = new Set<Bell>();
  /** Rings after each look and each answer of the primary. */
  readonly #told = new Bell();
  /** Rings to have a look at once. */
  readonly #hurry = new Bell();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #wantedUntil = -Infinity;
  #asking = 0;
  /** Since when a mark is wanted though nothing new can be seen. Undefined once there is an answer. */
  #wantedSince: number | undefined;
  #newest: Mark | undefined;
  #changedAt = -Infinity;
  #look: Look | undefined;
  /** Why the last look failed, and when it was begun. */
  #failed: { readonly at: number; readonly error: HarkError } | undefined;
  #step = briefly.first;

  constructor(db: Queryable, primary: Connections, given: ReplicaConnections) {
    this.#db = db;
    this.connections = given.connections;
    this.#shown = given.shown;
    this.#lag = new LagWatch(given.shown);
    this.#cutter = new Cutter(primary, given, () => {
      this.#told.ring();
      this.#hurry.ring();
    });
    primary.beforeClose(async () => {
      this.#stop.abort();
      await this.#running;
    });
  }

  /** Rings a bell whenever a new mark is there. Returns a function that ends that. */
  attach(bell: Bell): () => void {
    this.#bells.add(bell);
    this.#start();
    return () => void this.#bells.delete(bell);
  }

  async newest(): Promise<Mark> {
    const since = performance.now();
    if (this.#running === undefined) this.#newest = undefined;
    this.#start();
    if (this.#newest !== undefined) return this.#newest;
    return await this.#waitFor(since, () => this.#newest);
  }

  async now(): Promise<Mark> {
    const since = performance.now();
    this.#start();
    this.#asking++;
    this.#hurry.ring();
    try {
      return await this.#waitFor(since, () => {
        const [look, cut] = [this.#look, this.#cutter.last];
        if (look !== undefined && look.at >= since && !look.hasNew) return this.#newest;
        if (cut === undefined || cut.at < since) return undefined;
        if (cut.error !== undefined) throw cut.error;
        return this.#isHere(cut.mark!) ? this.#newest : undefined;
      });
    } finally {
      this.#asking--;
    }
  }

  advance(): void {
    this.#wantedSince = performance.now();
    this.#start();
    this.#hurry.ring();
  }

  /** Waits until something is told. A look that fails in that time ends the waiting. */
  async #waitFor(since: number, find: () => Mark | undefined): Promise<Mark> {
    const until = since + patience;
    for (;;) {
      const { count } = this.#told;
      const found = find();
      if (found !== undefined) return found;
      if (this.#failed !== undefined && this.#failed.at >= since) throw this.#failed.error;
      const left = until - performance.now();
      if (this.#stop.signal.aborted) {
        throw new HarkError("UNREACHABLE", "this database has been closed", {
          remedy: "Connect again.",
        });
      }
      if (left <= 0) {
        throw new HarkError(
          "REPLICA_BEHIND",
          `the replica ${this.#shown} has not replayed in ${patience} ms a mark that was cut on the primary`,
          { remedy: "Find out why it lags, or read from the primary." },
        );
      }
      await this.#told.wait(count, left, this.#stop.signal);
    }
  }

  /** Whether a mark, or a later one, is there. */
  #isHere(mark: Mark): boolean {
    return this.#newest !== undefined && !isLater(mark, this.#newest);
  }

  #start(): void {
    this.#wantedUntil = performance.now() + linger;
    if (this.#running !== undefined || this.#stop.signal.aborted) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      if (this.#isWanted && this.#failed === undefined) this.#start();
    });
  }

  get #isWanted(): boolean {
    return this.#bells.size > 0 || performance.now() < this.#wantedUntil;
  }

  async #run(): Promise<void> {
    const over = this.#stop.signal;
    let link: Link | undefined;
    let at = performance.now();
    this.#failed = undefined;
    try {
      link = await Link.open(this.#db, this.connections);
      while (!over.aborted && this.#isWanted) {
        const { count } = this.#hurry;
        at = performance.now();
        try {
          await this.#lookOnce(link.alive(), at);
          link.worked();
          this.#failed = undefined;
        } catch (error) {
          this.#fail(at, translate(error));
          await link.failed(
            error,
            over,
            (reason) =>
              logger.warn("The replica {replica} cannot be looked at: {reason}", {
                replica: this.#shown,
                reason: messageOf(reason),
              }),
          );
          continue;
        }
        const wait = this.#tend(link.session);
        await this.#hurry.wait(count, wait, over);
      }
    } catch (error) {
      // Readers that ask from now on begin anew.
      if (!over.aborted) this.#fail(Infinity, translate(error));
    } finally {
      await link?.close();
      await this.#cutter.close();
      this.#told.ring();
      for (const bell of this.#bells) bell.ring();
    }
  }

  #fail(at: number, error: HarkError): void {
    this.#failed = { at, error };
    this.#told.ring();
  }

  async #lookOnce(session: Queryable, at: number): Promise<void> {
    const { rows: [row] } = await translated(() => queryPrepared(session, lookSql, []));
    const standby = row.standby === true;
    if (this.#look?.standby !== standby) this.#sayWhatItIs(standby);
    // Until hark.rebase() has run, marks are those of another server.
    const isRebased = row.rebased === true;
    this.#look = { at, standby, hasNew: row.has_new === true || !isRebased };
    if (isRebased) this.#take(markOf(row.mark));
    const { last } = this.#cutter;
    const late = last?.mark === undefined || this.#isHere(last.mark) ? 0 : at - last.at;
    this.#lag.note(Math.max(late, Number(row.lag_ms)), at);
    this.#told.ring();
  }

  #sayWhatItIs(standby: boolean): void {
    if (this.#look === undefined && standby) return;
    const known = { replica: this.#shown };
    if (standby) logger.info("The replica {replica} is a standby again", known);
    else if (this.#look === undefined) {
      logger.info("The replica {replica} is no standby. It is read all the same", known);
    } else {
      logger.warn(
        "The replica {replica} has been promoted. Reading goes on there, and marks are cut there. " +
          "Publishers and consumers must use it as their primary too",
        known,
      );
    }
  }

  #take(mark: Mark): void {
    // One that goes back was restarted, or is another server behind the same name. Readers wait for it.
    const isNew = this.#newest === undefined || mark.content !== this.#newest.content;
    this.#newest = mark;
    if (!isNew) return;
    this.#changedAt = performance.now();
    for (const bell of this.#bells) bell.ring();
  }

  /** Has a mark cut if it is time for one. Returns when to look again, in milliseconds from now. */
  #tend(session: Queryable): number {
    const now = performance.now();
    const { standby, hasNew } = this.#look!;
    const awaited = this.#cutter.last?.mark;
    if (awaited !== undefined && !this.#isHere(awaited)) {
      this.#step = Math.min(this.#step * 1.5, briefly.most);
      return this.#step;
    }
    this.#step = briefly.first;
    const usual = this.#asking > 0 ? 10 : pace(now - this.#changedAt);
    const { last } = this.#cutter;
    if (last?.mark !== undefined && last.at >= (this.#wantedSince ?? Infinity)) {
      this.#wantedSince = undefined;
    }
    if (!hasNew && this.#wantedSince === undefined || this.#cutter.isAsking) return usual;
    const due = this.#cutter.due(this.#changedAt);
    if (now < due) return Math.min(usual, due - now);
    // A replica that has been promoted has nothing to ask the primary for.
    this.#cutter.ask(standby ? undefined : session);
    return usual;
  }
}
