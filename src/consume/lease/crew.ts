/**
 * The workers of a process that share one lease, and the heartbeat that they send together.
 *
 * @module
 */

import { toId } from "../../check.ts";
import { pause } from "../../database/bell.ts";
import type { Connections } from "../../database/connections.ts";
import type { Listener } from "../../database/listener.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { queryPrepared } from "../../database/prepared.ts";
import { translate, translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import type { Identity } from "../state/identity.ts";
import { type Mark, markOf } from "../state/position.ts";
import { processName } from "./process_name.ts";

/** The answer to a heartbeat: see hark.heartbeat. */
export interface Heartbeat {
  readonly outcome: "serve" | "outdated";
  readonly share: number;
  readonly partitions: number;
  readonly workers: number;
  /** The partitions that this worker owns, with the epoch of each. */
  readonly mine: ReadonlyMap<number, number>;
  readonly free: readonly number[];
  readonly gone: readonly number[];
  readonly paused: boolean;
  readonly releasing: boolean;
  /** Whether the number of partitions is being changed. */
  readonly turning: boolean;
  readonly changes: number;
  readonly replays: boolean;
  /**
   * Milliseconds from now until the next delayed notification is due. Null if there is none, or if
   * another worker of this process looks after that.
   */
  readonly nextDue: number | null;
  /** In how many ms the next schedule is due, as nextDue. */
  readonly nextSchedule: number | null;
  /** Whether old notifications are to be removed: see hark.apply_retention. */
  readonly retentionDue: boolean;
  /** The newest mark if it sees all that is committed. Undefined if there is something new. */
  readonly mark: Mark | undefined;
}

// A lease need not outlive a crash of the server, so nothing waits for the disk or for a standby.
const heartbeatSql = `select h.n, h.outcome, h.tag, h.share, h.partitions, h.workers,
 pg_catalog.to_json(h.mine)::text as mine, pg_catalog.to_json(h.epochs)::text as epochs,
 pg_catalog.to_json(h.free)::text as free, pg_catalog.to_json(h.gone)::text as gone, h.paused, h.releasing,
 h.turning, h.changes, h.replays, h.next_due_ms, h.next_schedule_ms, h.retention_due, h.mark,
 pg_catalog.set_config('synchronous_commit', 'off', true) as unwaited
from hark.heartbeat($1::uuid, $2::bigint, $3::integer, $4::boolean, $5::text,
 array(select pg_catalog.json_array_elements_text($6::text::json)), $7::text::uuid[],
 array(select pg_catalog.json_array_elements_text($8::text::json)), $9::text::json, $10::text::uuid[]) h`;

/** A worker in its crew. */
export interface Member {
  readonly identity: Identity;
  /** Names the consumer's definition, once the database has compared it with this worker's. */
  tag: string | undefined;
  /** When the last heartbeat with this worker was sent. */
  askedAt: number;
}

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
  #asking: Asking[] = [];
  #sending: Promise<void> | undefined;
  #sessionKey: bigint | undefined;
  #renewedAt = -Infinity;
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

  /** Sends what is asked, as long as something is. */
  async #send(): Promise<void> {
    // Timers of others that end now ask in the same call.
    if (this.#members.size > 1) await pause(0);
    while (this.#asking.length > 0) {
      const asking = this.#asking;
      this.#asking = [];
      try {
        await this.#ask(asking);
      } catch (error) {
        for (const { answer } of asking) answer.reject(error);
      }
    }
    this.#sending = undefined;
  }

  async #ask(asking: readonly Asking[]): Promise<void> {
    const sessionKey = this.#listener?.sessionKey;
    const sent = performance.now();
    const renew = sent - this.#renewedAt >= this.#lease / 5 || sessionKey !== this.#sessionKey;
    const absent = [...this.#members.values()].filter((one) =>
      sent - one.askedAt >= this.#lease && one.askedAt > -Infinity &&
      !asking.some(({ member }) => member === one)
    );
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
      `{${absent.map(({ identity }) => identity.owner).join(",")}}`,
    ]);
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
      if (own === undefined || own.alive) throw error;
      await own.close();
      this.#session = this.#connections!.lane();
      return await ask(this.#session, values);
    }
  }

  /** The worker stops. Its lease ends with the last worker of the crew. */
  async leave(session: Queryable, member: Member): Promise<void> {
    const { consumer, owner } = member.identity;
    // A heartbeat that is on its way would let it join again.
    await this.#sending;
    const isLast = this.#members.size === 1 && this.#members.has(consumer);
    if (isLast) this.#others.delete(this); // from here on others found a crew of their own
    await translated(() =>
      session.query("select hark.leave($1::text, $2::uuid, $3::uuid)", [
        consumer,
        owner,
        isLast ? this.#id : null,
      ])
    );
  }

  /** The worker has ended, whether or not it could leave. */
  async end(member: Member): Promise<void> {
    this.#members.delete(member.identity.consumer);
    if (this.#members.size > 0) return;
    this.#others.delete(this);
    await this.#sending;
    if (this.#connections !== undefined) await ownConnection(this.#session)?.close();
  }
}

async function ask(session: Queryable, values: unknown[]) {
  return (await translated(() => queryPrepared(session, heartbeatSql, values))).rows;
}

function isLost(error: unknown): boolean {
  const { code } = translate(error);
  return code === "UNREACHABLE" || code === "TIMEOUT";
}

function definition({ identity: { channels, filter, transactional } }: Member) {
  return { channels, filter: filter === null ? null : JSON.parse(filter), transactional };
}

// deno-lint-ignore no-explicit-any -- a row as drivers return it
function heartbeat(row: any, mark: Mark | undefined, isFirst: boolean): Heartbeat {
  const epochs: number[] = JSON.parse(row.epochs);
  const inMs = (value: unknown) => isFirst && value !== null ? Number(value) : null;
  return {
    outcome: row.outcome,
    share: Number(row.share),
    partitions: Number(row.partitions),
    workers: Number(row.workers),
    mine: new Map((JSON.parse(row.mine) as number[]).map((n, i) => [n, epochs[i]!])),
    free: JSON.parse(row.free),
    gone: JSON.parse(row.gone),
    paused: row.paused,
    releasing: row.releasing,
    turning: row.turning,
    changes: toId(row.changes),
    replays: row.replays,
    // One worker of the process looks after what concerns all consumers.
    nextDue: inMs(row.next_due_ms),
    nextSchedule: inMs(row.next_schedule_ms),
    retentionDue: isFirst && row.retention_due === true,
    mark,
  };
}

function removed(consumer: string): HarkError {
  return new HarkError("NO_CONSUMER", `the consumer "${consumer}" has been removed`, {
    remedy: "Run it again to register it as a new one, which begins at its start.",
  });
}
