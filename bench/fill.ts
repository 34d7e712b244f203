/**
 * Fills tables with millions of rows on the server: a log, or the waiting jobs of a peer.
 *
 * @module
 */

import type { Queryable } from "@hark/postgres";
import { say } from "./flags.ts";

/** What to fill with. */
export interface Filling {
  /** The number of rows. */
  readonly rows: number;
  /** The approximate size of a payload, in bytes. */
  readonly bytes: number;
  /** The channel, task or queue, as a SQL expression on the row's number `n`. @default {"'old'"} */
  readonly channel?: string;
}

/** What to fill a log with. */
export interface LogFilling extends Filling {
  /** The table: `hark.log` or `plain.log`. */
  readonly table: string;
  /** The time of publishing, as a SQL expression on `n`. @default {now} */
  readonly createdAt?: string;
}

/** Adds rows to a log. */
export async function fillLog(db: Queryable, filling: LogFilling): Promise<void> {
  const { table, channel = "'old'", createdAt = "clock_timestamp()" } = filling;
  await fill(
    db,
    filling,
    table,
    `insert into ${table} (channel, payload, created_at)
    select ${channel}, jsonb_build_object('n', n, 'filler', repeat('x', $3)), ${createdAt}
    from generate_series($1::bigint, $2::bigint) n`,
  );
}

/** Adds waiting jobs of graphile-worker, which must know their tasks already. */
export async function fillGraphile(db: Queryable, filling: Filling): Promise<void> {
  await fill(
    db,
    filling,
    "graphile_worker._private_jobs",
    `insert into graphile_worker._private_jobs (task_id, payload)
    select t.id, json_build_object('n', n, 'filler', repeat('x', $3))
    from generate_series($1::bigint, $2::bigint) n
    join graphile_worker._private_tasks t on t.identifier = ${filling.channel ?? "'old'"}
    order by n`,
  );
}

/** Adds waiting jobs of pg-boss, which must know their queues already. */
export async function fillBoss(db: Queryable, filling: Filling): Promise<void> {
  await fill(
    db,
    filling,
    "pgboss.job",
    `insert into pgboss.job (name, data, policy)
    select ${filling.channel ?? "'old'"},
      jsonb_build_object('n', n, 'filler', repeat('x', $3)), 'standard'
    from generate_series($1::bigint, $2::bigint) n`,
  );
}

/** Runs the statement in transactions of half a million rows, then vacuums the table. */
async function fill(
  db: Queryable,
  { rows, bytes }: Filling,
  table: string,
  statement: string,
): Promise<void> {
  for (let from = 1; from <= rows; from += 500_000) {
    const to = Math.min(rows, from + 499_999);
    // Creates the segments of the log, as workers do now and then.
    if (table === "hark.log") await db.query("select hark.extend()");
    await db.query(statement, [from, to, Math.max(0, bytes - 24)]);
    say(`${table}: ${to} of ${rows} rows`);
  }
  await db.query(`vacuum analyze ${table}`);
  await settle(db);
}

/**
 * Has the server write out the new rows now, if the role may request a checkpoint. Otherwise the
 * server does so during a measurement.
 */
export async function settle(db: Queryable): Promise<void> {
  await db.query("checkpoint").catch((error) => say(`no checkpoint: ${error.message}`));
}
