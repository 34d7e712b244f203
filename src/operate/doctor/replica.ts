/**
 * What is wrong with the replica of a database, from which it is read.
 *
 * @module
 */

import { replicaConnectionsOf } from "../../database/database.ts";
import type { Queryable } from "../../database/queryable.ts";
import { messageOf, translated } from "../../database/translate.ts";
import { durationText, numberText } from "../../show.ts";
import type { Find, Finding } from "./finding.ts";

/** A replica as it is. */
export interface ReplicaFacts {
  /** Where it is, without secrets. */
  readonly shown: string;
  /** Why it could not be looked at. */
  readonly error?: string;
  readonly standby: boolean;
  /** How far it is behind, in ms. */
  readonly lag: number;
  /** Whether it receives a stream from its primary now. */
  readonly receives: boolean;
  /** Whether it tells the primary which rows its readers need. */
  readonly feedback: boolean;
  /** How many statements it has cancelled in this database to go on replaying. */
  readonly cancelled: number;
}

const lookSql = `select l.standby, l.lag_ms, exists (select from pg_stat_wal_receiver) as receives,
  current_setting('hot_standby_feedback')::boolean as feedback,
  (select c.confl_snapshot + c.confl_lock + c.confl_bufferpin from pg_stat_database_conflicts c
    where c.datname = current_database()) as cancelled
from hark.look_here() l`;

/** Looks at the replica. Undefined if there is none. */
export async function replicaFacts(db: Queryable): Promise<ReplicaFacts | undefined> {
  const replica = replicaConnectionsOf(db);
  if (replica === undefined) return undefined;
  const { connections, shown } = replica;
  const unknown = { shown, standby: true, lag: 0, receives: true, feedback: true, cancelled: 0 };
  try {
    const { rows: [row] } = await translated(() => connections.query((on) => on.query(lookSql)));
    return {
      shown,
      standby: row.standby === true,
      lag: Number(row.lag_ms),
      receives: row.receives === true,
      feedback: row.feedback === true,
      cancelled: Number(row.cancelled),
    };
  } catch (error) {
    return { ...unknown, error: messageOf(error) };
  }
}

/** A replica that is further behind than this is said, in ms. */
const far = 10_000;

/** The findings about the replica. */
export function ofReplica(replica: ReplicaFacts | undefined, find: Find): Finding[] {
  if (replica === undefined) return [];
  const { shown, error, standby, lag, receives, feedback, cancelled } = replica;
  const warn = (problem: string, remedy: string) =>
    find("warning", "replica", `the replica ${shown} ${problem}`, remedy);
  if (error !== undefined) {
    return [
      find(
        "error",
        "replica",
        `the replica ${shown} cannot be looked at: ${error}`,
        "Start it, or connect without it.",
      ),
    ];
  }
  if (!standby) {
    return [warn("is no standby, so reading there is work for a primary", "Give a standby.")];
  }
  return [
    ...lag > far
      ? [warn(
        `is ${durationText(Math.round(lag))} behind${
          receives ? "" : ", and receives nothing from its primary"
        }: so are its readers`,
        receives
          ? "Find out what it waits for: see pg_stat_activity there, and recovery_min_apply_delay."
          : "Look at its log, and at primary_conninfo.",
      )]
      : [],
    ...!feedback && cancelled > 0
      ? [warn(
        `has cancelled ${
          numberText(cancelled)
        } statements to go on replaying, and hot_standby_feedback is off`,
        "On the standby: alter system set hot_standby_feedback = on, then reload. Or raise max_standby_streaming_delay.",
      )]
      : [],
  ];
}
