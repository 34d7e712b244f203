/**
 * A worker's membership among the workers of its consumer: its lease, its share, its claims.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { toId } from "../../check.ts";
import { sqlState } from "../../database/driver_error.ts";
import { connectionsOf } from "../../database/database.ts";
import type { Listener } from "../../database/listener.ts";
import type { Queryable, QueryResult } from "../../database/queryable.ts";
import { messageOf, translate, translated } from "../../database/translate.ts";
import { observed, ofConsumer } from "../../observe/seam.ts";
import { type Claimed, type Held, type Identity, numbersText } from "../state/identity.ts";
import { markOf } from "../state/position.ts";
import { Crew } from "./crew.ts";
import type { Entry } from "./enter.ts";
import type { Heartbeat, Member } from "./heartbeat.ts";

const logger = getLogger(["hark", "consumer"]);

/** Makes the membership calls of one worker, on the session it currently has. */
export class Membership implements Member {
  readonly identity: Identity;
  tag: string | undefined;
  askedAt = -Infinity;
  #crew: Crew;
  readonly #db: Queryable;
  readonly #listener: Listener | undefined;
  /** The partitions that were locked when it last claimed, as they were told. */
  #locked = "";
  /** Whether it has entered, and neither claimed nor left since. */
  hasEntered = false;

  constructor(identity: Identity, db: Queryable, listener: Listener | undefined) {
    this.identity = identity;
    this.#db = db;
    this.#listener = listener;
    this.#crew = Crew.join(db, connectionsOf(db), this, listener);
  }

  /** Whether, at a given time, certainly no other worker has taken over. */
  certain(now: number): boolean {
    return this.#crew.certain(this, now);
  }

  /** Becomes a worker at once if a partition is free: see hark.enter. */
  async enter(on: Queryable, version: number): Promise<Entry> {
    const entry = await this.#crew.enter(on, this, version);
    this.hasEntered = entry === "entered";
    return entry;
  }

  /**
   * Sends a heartbeat. Renews the lease if it is time.
   *
   * @throws {HarkError} `NO_CONSUMER` if the consumer was removed.
   */
  async heartbeat(session: Queryable): Promise<Heartbeat> {
    const answer = await this.#crew.heartbeat(this);
    if (!answer.turning) return answer;
    await translated(() =>
      session.query("select hark.turn_partitions($1::text)", [this.identity.consumer])
    );
    return await this.#crew.heartbeat(this);
  }

  /** Claims partitions. Returns those that this worker got. */
  async claim(
    session: Queryable,
    wanted: readonly number[],
    presumeGone: boolean,
  ): Promise<Claimed[]> {
    const about = { ...ofConsumer(this.identity.consumer), "hark.partitions": wanted.length };
    return await observed("hark.claim", this.#db, about, () => {
      return this.#claim(session, wanted, presumeGone);
    });
  }

  async #claim(
    session: Queryable,
    wanted: readonly number[],
    presumeGone: boolean,
  ): Promise<Claimed[]> {
    const { consumer, owner } = this.identity;
    const ask = (skipLocked: boolean) =>
      session.query(
        `select partition, epoch, hark.content_of(seen) as seen, hark.content_of(target) as target,
          last_id, after_id, crashes, suspect_id, suspect_ends, incarnation
         from hark.claim($1::text, $2::text::integer[], $3::uuid, $4::boolean, $5::boolean,
           $6::text)
         order by partition`,
        [consumer, numbersText(wanted), owner, presumeGone, skipLocked, this.tag ?? null],
      );
    this.hasEntered = false;
    let rows: QueryResult["rows"];
    try {
      ({ rows } = await ask(false));
    } catch (error) {
      const reason = translate(error);
      if (sqlState(reason) !== "55P03") throw reason;
      // A transaction of the last owner is still open: its handler hangs, or its process was
      // stopped.
      await this.#endOwners(session, wanted);
      // Any other transaction, such as one of psql, may hold the rows for as long as it likes.
      ({ rows } = await translated(() => ask(true)));
      const locked = wanted.filter((number) =>
        !rows.some((row) => Number(row.partition) === number)
      );
      const partitions = locked.toSorted((a, b) => a - b).join(", ");
      if (partitions !== "" && partitions !== this.#locked) {
        logger.warn(
          "{consumer}: could not claim partitions {partitions}: another transaction has locked " +
            "their rows in hark.partitions. Each heartbeat tries again",
          { consumer, partitions },
        );
      }
      this.#locked = partitions;
    }
    return rows.map((row) => ({
      partition: Number(row.partition),
      epoch: toId(row.epoch),
      position: {
        seen: markOf(row.seen),
        target: row.target === null ? undefined : markOf(row.target),
        lastId: toId(row.last_id),
        afterId: toId(row.after_id),
      },
      crashes: Number(row.crashes),
      suspectId: row.suspect_id === null ? undefined : toId(row.suspect_id),
      suspectEnds: Number(row.suspect_ends),
      incarnation: row.incarnation,
    }));
  }

  /** Ends the sessions in which earlier owners' handlers have open transactions. */
  async #endOwners(session: Queryable, partitions: readonly number[]): Promise<void> {
    const { consumer, owner } = this.identity;
    try {
      const { rows } = await session.query(
        `select pg_catalog.count(*)::integer as ended from (
          select pg_catalog.pg_terminate_backend(l.pid)
          from hark.lost_owners($1::text, $2::text::integer[], $3::uuid) o,
            lateral (select (o.key >> 32)::bit(32)::bigint as high, o.key::bit(32)::bigint as low) k,
            pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
          where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
            -- Any role can hold this lock. To end a session of another role would be an error.
            and pg_catalog.pg_has_role(a.usesysid, 'usage')
            and l.classid::bigint = k.high and l.objid::bigint = k.low
            and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
        ) t`,
        [consumer, numbersText(partitions), owner],
      );
      const count = Number(rows[0].ended);
      if (count === 0) return;
      logger.warn("{consumer}: ended {count} sessions that the previous owner had left open", {
        consumer,
        count,
      });
    } catch (error) {
      logger.warn(
        "{consumer}: could not end the previous owner's open transaction; it ends with that owner's lease: {reason}",
        { consumer, reason: messageOf(error) },
      );
    }
  }

  /**
   * Counts as the youngest worker from now on, if notifications of this worker wait for a newer program
   * and another worker has joined since. Returns whether it does.
   */
  async yieldToNewer(session: Queryable): Promise<boolean> {
    const { consumer, owner } = this.identity;
    const { rows: [row] } = await translated(() =>
      session.query("select hark.yield_to_newer($1::text, $2::uuid) as yielded", [consumer, owner])
    );
    return row.yielded === true;
  }

  /** Gives partitions back. Partitions that the worker no longer owns are ignored. */
  async release(session: Queryable, held: Held): Promise<void> {
    const { consumer, owner } = this.identity;
    await translated(() =>
      session.query(
        "select hark.release($1::text, $2::uuid, $3::text::integer[], $4::text::bigint[])",
        [
          consumer,
          owner,
          numbersText(held.map((h) => h.number)),
          numbersText(held.map((h) => h.epoch)),
        ],
      )
    );
  }

  /**
   * Falls asleep: leaves, gives the partitions back, and closes what was for heartbeats.
   *
   * @param bounds The shortest and the longest sleep, in milliseconds.
   * @returns in how many milliseconds the worker has to wake. Undefined if it has something to do: then
   *   nothing is changed.
   */
  async fallAsleep(
    session: Queryable,
    held: Held,
    bounds: { readonly least: number; readonly most: number },
  ): Promise<number | undefined> {
    const wakesIn = await this.#crew.fallAsleep(session, this, held, bounds);
    if (wakesIn !== undefined) await this.#crew.end(this);
    return wakesIn;
  }

  /** Wakes: its next heartbeat has it join the workers of the consumer again. */
  async wake(session: Queryable): Promise<void> {
    const { consumer, owner } = this.identity;
    await translated(() =>
      session.query("select hark.awake($1::text, $2::uuid)", [consumer, owner])
    );
    this.tag = undefined;
    this.askedAt = -Infinity;
    this.#crew = Crew.join(this.#db, connectionsOf(this.#db), this, this.#listener);
  }

  /** Removes this worker from the workers of the consumer. */
  async leave(session: Queryable): Promise<void> {
    await this.#crew.leave(session, this, this.hasEntered);
    this.hasEntered = false;
  }

  /** The time of a drain is over: ends the heartbeat that is under way. */
  cut(): void {
    this.#crew.cut(this);
  }

  /** The run has ended, whether or not the worker could leave. */
  async end(): Promise<void> {
    await this.#crew.end(this);
  }

  /** Stores which notification is about to be handled alone. */
  async beginAlone(
    session: Queryable,
    held: { number: number; epoch: number },
    id: number,
  ): Promise<void> {
    const { consumer, owner } = this.identity;
    await translated(() =>
      session.query(
        "select hark.begin_alone($1::text, $2::uuid, $3::integer, $4::bigint, $5::bigint)",
        [consumer, owner, held.number, held.epoch, id],
      )
    );
  }
}
