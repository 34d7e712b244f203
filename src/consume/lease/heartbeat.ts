/**
 * The heartbeat of workers: the question, and what the answer says to each.
 *
 * @module
 */

import { toId } from "../../check.ts";
import { listensSql } from "../../database/listening.ts";
import type { Queryable } from "../../database/queryable.ts";
import { queryPrepared } from "../../database/prepared.ts";
import { translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import type { Identity } from "../state/identity.ts";
import type { Mark } from "../state/position.ts";

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
 case when h.n = 1 then ${listensSql} end as listens,
 case when h.n = 1 and $11::text <> '{}' then (select pg_catalog.json_object_agg(s.sleeper, s.channels)::text
  from hark.stay_asleep($11::text::uuid[], $2::bigint, $12::integer) s) end as renewed,
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

/** Sends a heartbeat. Gives a row for each worker that it is for. */
export async function ask(session: Queryable, values: unknown[]) {
  return (await translated(() => queryPrepared(session, heartbeatSql, values))).rows;
}

/** What a worker serves, for the database to compare. */
export function definition({ identity: { channels, filter, transactional } }: Member) {
  return { channels, filter: filter === null ? null : JSON.parse(filter), transactional };
}

/** What the answer says to one worker. Only the first of a process looks after what concerns all. */
// deno-lint-ignore no-explicit-any -- a row as drivers return it
export function heartbeat(row: any, mark: Mark | undefined, isFirst: boolean): Heartbeat {
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

/** The error of a worker whose consumer is gone. */
export function removed(consumer: string): HarkError {
  return new HarkError("NO_CONSUMER", `the consumer "${consumer}" has been removed`, {
    remedy: "Run it again to register it as a new one, which begins at its start.",
  });
}
