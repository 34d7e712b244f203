/**
 * The workers of a process that share one lease, and the heartbeat that they send together.
 *
 * @module
 */

import { pause } from "../../database/bell.ts";
import type { Connections } from "../../database/connections.ts";
import type { Listener } from "../../database/listener.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { translate } from "../../database/translate.ts";
import type { Held } from "../state/identity.ts";
import { markOf } from "../state/position.ts";
import { renewalAt, sleepTime } from "../state/sleepers.ts";
import { Departures, fallAsleep, leave } from "./departures.ts";
import { enter, type Entry } from "./enter.ts";
import { ask, definition, type Heartbeat, heartbeat, type Member, removed } from "./heartbeat.ts";
import { processName } from "./process_name.ts";

interface Asking {
  readonly member: Member;
  readonly answer: PromiseWithResolvers<Heartbeat>;
}

/** The crews of each database, by what its connections are. */
const crews = new WeakMap<object, Set<Crew>>();

/**
 * Workers of a process that share one lease. Usually all of a database do. A worker is in another crew
 * if its lease has another length, if it has no LISTEN session, or if the crew serves its consumer
 * already.
 */
export class Crew {
  readonly #id = crypto.randomUUID();
  readonly #lease: number;
  readonly #listener: Listener | undefined;
  readonly #connections: Connections | undefined;
  #session: Queryable;
  readonly #members = new Map<string, Member>();
  /** The workers that have left, or fallen asleep. */
  readonly #left = new WeakSet<Member>();
  readonly #departures = new Departures();
  /** The owners of workers that have ended and could not leave. The next heartbeat removes them. */
  readonly #ended = new Set<string>();
  #asking: Asking[] = [];
  #sending: Promise<void> | undefined;
  /** The heartbeat that is on its way. */
  #asked: Promise<void> | undefined;
  #sessionKey: bigint | undefined;
  #renewedAt = -Infinity;
  #isCut = false;
  readonly #others: Set<Crew>;

  private constructor(
    db: Queryable,
    connections: Connections | undefined,
    lease: number,
    listener: Listener | undefined,
    others: Set<Crew>,
  ) {
    this.#connections = connections;
    this.#lease = lease;
    this.#listener = listener;
    this.#others = others;
    this.#session = connections?.lane() ?? db;
    others.add(this);
  }

  /** Joins a crew of the database, or founds one. */
  static join(
    db: Queryable,
    connections: Connections | undefined,
    member: Member,
    listener: Listener | undefined,
  ): Crew {
    const { consumer, lease } = member.identity;
    const known = connections === undefined ? undefined : crews.get(connections);
    const others = known ?? new Set<Crew>();
    if (connections !== undefined && known === undefined) crews.set(connections, others);
    const crew =
      [...others].find((one) =>
        one.#lease === lease && one.#listener === listener && !one.#members.has(consumer)
      ) ?? new Crew(db, connections, lease, listener, others);
    crew.#members.set(consumer, member);
    crew.#left.delete(member); // it may have slept
    return crew;
  }

  /**
   * Whether, at a given time, certainly no other worker has taken over from this one: its lease runs by
   * this process's clock, and not for the last second only. A page may be on its way for that long.
   */
  certain({ askedAt }: Member, now: number): boolean {
    const margin = Math.min(1000, this.#lease / 4);
    return now - Math.min(askedAt, this.#renewedAt) < this.#lease - margin;
  }

  /**
   * Sends a heartbeat, together with the others that are due. Renews the lease if it is time.
   *
   * @throws {HarkError} `NO_CONSUMER` if the consumer was removed.
   */
  async heartbeat(member: Member): Promise<Heartbeat> {
    const answer = Promise.withResolvers<Heartbeat>();
    this.#asking.push({ member, answer });
    this.#sending ??= this.#send();
    return await answer.promise;
  }

  /** Has a worker enter before its first heartbeat, which renews the lease in any case. */
  async enter(on: Queryable, member: Member, version: number): Promise<Entry> {
    return await enter(on, member, this.#id, version);
  }

  /** Sends what is asked, as long as something is. */
  async #send(): Promise<void> {
    // Timers of others that end now ask in the same call.
    if (this.#members.size > 1) await pause(0);
    while (this.#asking.length > 0) {
      const asking = this.#asking;
      this.#asking = [];
      this.#asked = this.#ask(asking).catch((error) => {
        for (const { answer } of asking) answer.reject(error);
      });
      await this.#asked;
    }
    this.#sending = undefined;
  }

  async #ask(asking: readonly Asking[]): Promise<void> {
    const sessionKey = this.#listener?.sessionKey;
    const sent = performance.now();
    const renew = sent - this.#renewedAt >= this.#lease / 5 || sessionKey !== this.#sessionKey;
    const silent = [...this.#members.values()].filter((one) =>
      sent - one.askedAt >= this.#lease && one.askedAt > -Infinity &&
      !asking.some(({ member }) => member === one)
    );
    const absent = [...this.#ended, ...silent.map(({ identity }) => identity.owner)];
    const renewal = renewalAt(sent, this.#listener);
    const rows = await this.#query([
      this.#id,
      sessionKey === undefined ? null : String(sessionKey),
      this.#lease,
      renew,
      processName(),
      JSON.stringify(asking.map(({ member }) => member.identity.consumer)),
      `{${asking.map(({ member }) => member.identity.owner).join(",")}}`,
      JSON.stringify(asking.map(({ member }) => member.tag ?? null)),
      asking.every(({ member }) => member.tag !== undefined) ? null : JSON.stringify(
        asking.map(({ member }) => member.tag === undefined ? definition(member) : null),
      ),
      `{${absent.join(",")}}`,
      renewal.sleepers,
      sleepTime,
    ]);
    renewal.answered(rows[0].renewed);
    for (const owner of absent) this.#ended.delete(owner);
    if (renew) this.#renewedAt = sent;
    this.#sessionKey = sessionKey;
    const mark = rows[0].mark === null ? undefined : markOf(rows[0].mark);
    for (const [i, { member, answer }] of asking.entries()) {
      const row = rows[i];
      if (row.outcome === "removed") {
        answer.reject(removed(member.identity.consumer));
      } else if (row.outcome === "unknown") {
        member.tag = undefined;
        this.#asking.push({ member, answer });
      } else {
        member.askedAt = sent;
        member.tag = row.outcome === "serve" ? row.tag : undefined;
        answer.resolve(heartbeat(row, mark, i === 0));
      }
    }
  }

  /**
   * Asks on the LISTEN session, which saves its own heartbeat. If a connection is lost, asks on
   * another one: all workers would be interrupted.
   */
  async #query(values: unknown[]) {
    const listening = this.#listener?.session;
    if (listening !== undefined) {
      try {
        return await ask(listening, values);
      } catch (error) {
        if (!isLost(error)) throw error;
      }
    }
    try {
      return await ask(this.#session, values);
    } catch (error) {
      const own = ownConnection(this.#session);
      if (own === undefined || own.alive || this.#isCut) throw error;
      await own.close();
      this.#session = this.#connections!.lane();
      return await ask(this.#session, values);
    }
  }

  /**
   * The worker stops. Its lease ends with the last worker of the crew.
   *
   * @param unserved Whether it has entered, and claimed nothing since.
   */
  async leave(session: Queryable, member: Member, unserved: boolean): Promise<void> {
    await this.#departures.leave(async () => {
      // A heartbeat that is on its way would let it join again.
      await this.#asked;
      const isLast = this.#isLast(member);
      await leave(session, member.identity, isLast ? this.#id : null, unserved);
      this.#left.add(member);
      // Others may have left in the same moment, and none of them was the last by then.
      if (!isLast && this.#isLast(member)) await leave(session, member.identity, this.#id, false);
    });
  }

  /**
   * The worker falls asleep: it leaves, and its partitions are given back.
   *
   * @returns in how many milliseconds it has to wake, at most `most`. Undefined if it has something to do
   *   before `least`: then nothing is changed.
   */
  async fallAsleep(
    session: Queryable,
    member: Member,
    held: Held,
    bounds: { readonly least: number; readonly most: number },
  ): Promise<number | undefined> {
    return await this.#departures.lieDown(async () => {
      // A heartbeat that is on its way would let it join again.
      await this.#asked;
      const isLast = this.#isLast(member);
      const process = isLast ? this.#id : null;
      const key = this.#listener?.sessionKey;
      let wakesIn: number | undefined;
      try {
        wakesIn = await fallAsleep(session, member.identity, process, key, held, bounds);
        if (wakesIn !== undefined) this.#left.add(member);
        return wakesIn;
      } finally {
        if (wakesIn === undefined && isLast) this.#others.add(this);
      }
    });
  }

  /** Whether all other workers have left. If so, others found a crew of their own from here on. */
  #isLast(member: Member): boolean {
    if (!this.#has(member)) return false;
    for (const one of this.#members.values()) {
      if (one !== member && !this.#left.has(one)) return false;
    }
    this.#others.delete(this);
    return true;
  }

  /** Whether it has not ended. Another run of its consumer may have joined since. */
  #has(member: Member): boolean {
    return this.#members.get(member.identity.consumer) === member;
  }

  /** Ends the heartbeat that is under way, unless it is also for another worker. */
  cut(member: Member): void {
    if (this.#members.size > 1 || !this.#has(member)) return;
    this.#isCut = true;
    this.#others.delete(this);
    if (this.#connections !== undefined) ownConnection(this.#session)?.cut();
  }

  /** The worker has ended, whether or not it could leave. */
  async end(member: Member): Promise<void> {
    if (!this.#has(member)) return;
    const { consumer, owner } = member.identity;
    this.#members.delete(consumer);
    if (this.#members.size > 0) {
      if (!this.#left.has(member)) this.#ended.add(owner);
      return;
    }
    this.#others.delete(this);
    await this.#sending;
    if (this.#connections !== undefined) await ownConnection(this.#session)?.close();
  }
}

/** Whether a connection failed, rather than the question. */
function isLost(error: unknown): boolean {
  const { code } = translate(error);
  return code === "UNREACHABLE" || code === "TIMEOUT";
}
