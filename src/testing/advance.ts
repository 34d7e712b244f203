/**
 * Letting time pass in the database of a test.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { type Duration, requiredMs } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { cronTimes } from "../publish/cron.ts";

/** A database that time is moved in. */
export interface Moved extends Queryable {
  /** Runs `work` in a transaction. */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>;
}

/** The time of one database. Its clock stays; what has been let pass is kept here. */
export class Time {
  readonly #db: Moved;
  /** How much time has been let pass, in ms. */
  #passed = 0;
  /** What the time was after the last move, in ms since 1970. */
  #moved = -Infinity;

  constructor(db: Moved) {
    this.#db = db;
  }

  /** Moves what is due at a time, publishes what is scheduled until then, and tells the workers. */
  async advance(time: Duration): Promise<void> {
    const ms = requiredMs("time", time, { least: 0, most: 315_360_000_000, fractions: true });
    await this.#db.query(
      `with t as (select make_interval(secs => $1::float8 / 1000) as time),
        delayed as (update hark.delayed d set deliver_at = d.deliver_at - t.time from t returning 1),
        dedupe as (update hark.dedupe d set expires_at = d.expires_at - t.time from t returning 1),
        waiting as (
          update hark.waiting w set due_at = w.due_at - t.time,
            -- A worker that has the row in memory learns by this that it is due (hark.retry).
            hurried = case when w.due_at - t.time <= clock_timestamp() then k.changes + 1 else w.hurried end
          from t, hark.consumers k where k.name = w.consumer returning 1
        )
      select hark.request_look(''), (select count(*) from delayed), (select count(*) from dedupe),
        (select count(*) from waiting)`,
      [ms],
    );
    await this.#db.transaction((tx) => this.#publishSchedules(tx, ms));
    await this.#db.query("select hark.changed(k.name) from hark.consumers k");
  }

  /**
   * Publishes the schedules that are due until the new time. A worker could not: it publishes for the
   * time that is stored, and stored times in the future are not due by its clock.
   */
  async #publishSchedules(tx: Queryable, ms: number): Promise<void> {
    const { rows: [clock] } = await tx.query(
      "select extract(epoch from clock_timestamp())::float8 * 1000 as now",
    );
    const before = this.#moved;
    this.#passed += ms;
    const now = this.#moved = Number(clock.now) + this.#passed;
    const { rows } = await tx.query(
      `select name, cron, timezone, extract(epoch from next_at)::float8 * 1000 as due
      from hark.schedules where next_at is not null order by next_at, name for update`,
    );
    for (const { name, cron, timezone, due: stored } of rows) {
      let due: number | undefined = Number(stored);
      try {
        // It was stored after the last move, by the clock, which had not moved.
        if (due <= before) due = await nextTime(cron, timezone, before);
        const next = due !== undefined && due <= now ? await nextTime(cron, timezone, now) : due;
        await tx.query(
          `with published as (
            select hark.notify(s.channel, s.payload, s.key, coalesce(s.headers, '{}') ||
              jsonb_build_object('schedule', s.name, 'scheduledAt',
                to_char(to_timestamp($2::float8 / 1000) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))) as id
            from hark.schedules s where s.name = $1 and $3
          )
          update hark.schedules s set next_at = to_timestamp($4::float8 / 1000),
            last_at = case when $3 then to_timestamp($2::float8 / 1000) else s.last_at end,
            last_id = coalesce((select p.id from published p), s.last_id)
          where s.name = $1`,
          [name, due ?? null, due !== undefined && due <= now, next ?? null],
        );
      } catch (error) {
        if (!(error instanceof HarkError && error.code === "BAD_OPTION")) throw error;
        // A pattern that cannot be read is a worker's to report, as it is outside tests.
        await tx.query(
          "update hark.schedules set next_at = least(next_at, clock_timestamp()) where name = $1",
          [name],
        );
      }
    }
  }
}

async function nextTime(
  cron: string,
  timezone: string,
  after: number,
): Promise<number | undefined> {
  const [next] = await cronTimes(cron, timezone, new Date(after));
  return next?.getTime();
}
