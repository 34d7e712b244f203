/**
 * Publishing on a schedule.
 *
 * @module
 */

import { encode } from "../channels/encode.ts";
import { type AnyChannel, type ChannelInput, definitionOf } from "../channels/kind.ts";
import { bad, channelName, knownOptions, text, toId } from "../check.ts";
import { firstQuery, type Queryable, requireQueryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { ask } from "../schema/ask.ts";
import { requireSchema } from "../schema/migrate.ts";
import { cronTimes } from "../publish/cron.ts";
import { headersText, keyText, payloadText } from "../publish/payload.ts";
import { date, ms } from "./times.ts";

/** What a schedule publishes, and how its pattern is read. */
export interface ScheduleOptions<On extends string | AnyChannel = string | AnyChannel> {
  /** The channel to publish on, 1 to 200 characters, or a typed channel. */
  readonly channel: On;
  /**
   * The payload: anything that JSON can hold. On a typed channel, its schema checks the payload as
   * it is stored. @default {{}}
   */
  readonly payload?: ChannelInput<On>;
  /** The key, as {@linkcode notify} takes it. Without it: no key, or that of a typed channel. */
  readonly key?: string | number | bigint | null;
  /** Headers, an object. `schedule` and `scheduledAt` are added to them. */
  readonly headers?: Readonly<Record<string, unknown>> | null;
  /**
   * The IANA name of the time zone in which the pattern is read, such as `"Europe/Berlin"`.
   * @default {"UTC"}
   */
  readonly timezone?: string;
  /**
   * What happens to times at which no worker ran. With `"once"`, one notification is published for
   * all of them as soon as a worker runs. With `"skip"`, none is, if the time is over by more than a
   * minute.
   * @default {"once"}
   */
  readonly missed?: "once" | "skip";
}

/** A stored schedule. */
export interface Schedule {
  /** Its name. */
  readonly name: string;
  /** The cron pattern. */
  readonly cron: string;
  /** The time zone in which the pattern is read. */
  readonly timezone: string;
  /** The channel that it publishes on. */
  readonly channel: string;
  /** The payload of each notification. */
  readonly payload: unknown;
  /** The key of each notification; null if it has none. */
  readonly key: string | null;
  /** The headers of each notification; null if it has none of its own. */
  readonly headers: Readonly<Record<string, unknown>> | null;
  /** What happens to times at which no worker ran. */
  readonly missed: "once" | "skip";
  /**
   * When it is due next. A time more than moments in the past means that no worker runs. Null if
   * there is no further time, or a `problem`.
   */
  readonly nextAt: Date | null;
  /** The time for which it last published; null if it never has. */
  readonly lastAt: Date | null;
  /** The id of the notification that it last published; null if it never has. */
  readonly lastId: number | null;
  /** Why it publishes nothing any more; null if there is no problem. Store it anew to mend it. */
  readonly problem: string | null;
  /** When it was first stored. */
  readonly createdAt: Date;
  /** The role that stored it. */
  readonly owner: string;
}

/** The schedules in short, for {@linkcode status}. */
export interface SchedulesStatus {
  /** How many there are. */
  readonly count: number;
  /**
   * When the first of them is due; null if none is. A time more than moments in the past means that
   * no worker runs.
   */
  readonly nextAt: Date | null;
  /**
   * The names of those that publish nothing any more because of a problem: see {@linkcode schedules}.
   */
  readonly problems: readonly string[];
}

/**
 * Publishes a notification at each time that a cron pattern names: once, however many workers run.
 * The schedule is stored in the database, in the transaction that `db` is in. Whichever worker of
 * any consumer runs publishes what is due. While no worker runs, nothing is published.
 *
 * A schedule of this name is replaced, so a program can store its schedules at each start. If the
 * pattern and the time zone stay the same, a time that is due is not lost.
 *
 * The notification's headers say the name of the schedule (`schedule`) and the time for which it is
 * published (`scheduledAt`, in UTC). `createdAt` says when it was published: at most moments later
 * if a worker runs.
 *
 * A time that the clocks skip in spring is due when they have skipped it: 02:30 at 03:00. A time that
 * comes twice in autumn is due the first time only, unless the pattern names every hour or the hour
 * in steps.
 *
 * @param name The name, 1 to 200 characters. Names belong to the database, not to a channel.
 * @param cron Minute, hour, day of the month, month and day of the week, such as `"30 2 * * MON-FRI"`.
 * With six fields, seconds come first. Also `"@hourly"`, `"@daily"`, `"@weekly"`, `"@monthly"` and
 * `"@yearly"`. `L` is the last day of a month, and `MON#2` the second Monday. If both days are given,
 * either of them is enough.
 * @returns When it is due next.
 * @throws {HarkError} `BAD_OPTION`, also if the pattern names no time to come; `BAD_CHANNEL`;
 * `BAD_PAYLOAD`; `NO_PERMISSION` without `hark.grant_publish`, or if another role has stored a
 * schedule of this name; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, schedule } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await schedule(db, "nightly report", "0 3 * * *", {
 *   channel: "reports",
 *   payload: { kind: "sales" },
 *   timezone: "Europe/Berlin",
 * });
 * ```
 */
export async function schedule<const On extends string | AnyChannel>(
  db: Queryable,
  name: string,
  cron: string,
  options: ScheduleOptions<On>,
): Promise<Date> {
  requireQueryable(db);
  scheduleName(name);
  knownOptions("schedule", options, [
    "channel",
    "payload",
    "key",
    "headers",
    "timezone",
    "missed",
  ], '{ channel: "reports" }');
  const { timezone = "UTC", missed = "once" } = options;
  if (missed !== "once" && missed !== "skip") bad("missed", missed, 'Give "once" or "skip".');
  if (typeof cron === "string" && cron.length > 200) {
    bad("cron", cron, "Give a pattern of at most 200 characters.");
  }
  const payload = "payload" in options ? options.payload : {};
  const typed = definitionOf(options.channel);
  const one = typed !== undefined ? await encode(typed, payload, options) : {
    channel: channelName(options.channel),
    payload: payloadText(payload),
    key: keyText(options.key),
    headers: headersText(options.headers),
  };
  const values = [one.channel, one.payload, one.key, one.headers, missed];
  await requireSchema(db);
  return await translated(async () => {
    const { rows: [clock] } = await db.query(
      "select extract(epoch from clock_timestamp())::float8 * 1000 as now",
    );
    const [next] = await cronTimes(cron, timezone, new Date(Number(clock.now)));
    if (next === undefined) bad("cron", cron, "It names no time to come. Give one that does.");
    const { rows } = await firstQuery(
      db,
      `select extract(epoch from hark.schedule($1::text, $2::text, $3::text,
        to_timestamp($4::float8 / 1000), $5::text, $6::text::jsonb, $7::text, $8::text::jsonb,
        $9::text))::float8 * 1000 as next`,
      [name, cron.trim(), timezone, next.getTime(), ...values],
    );
    return new Date(Number(rows[0].next));
  });
}

/**
 * Removes a schedule of {@linkcode schedule}. Returns whether there was one. What it has published
 * stays in the log.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` if another role has stored it, unless this role
 * has `hark.grant_operate`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, unschedule } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await unschedule(db, "nightly report") ? "removed" : "there was none");
 * ```
 */
export async function unschedule(db: Queryable, name: string): Promise<boolean> {
  requireQueryable(db);
  scheduleName(name);
  const [{ removed }] = await ask(db, "select hark.unschedule($1::text) as removed", [name]);
  return removed === true;
}

/**
 * All schedules, by name.
 *
 * @throws {HarkError} `NO_PERMISSION` without `hark.grant_consume`, `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, schedules } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { name, cron, nextAt } of await schedules(db)) console.log(name, cron, nextAt);
 * ```
 */
export async function schedules(db: Queryable): Promise<Schedule[]> {
  return await readSchedules(db, JSON.parse);
}

/** The same, with what parses payloads and headers. */
export async function readSchedules(
  db: Queryable,
  // deno-lint-ignore no-explicit-any -- JSON
  parse: (text: string) => any,
): Promise<Schedule[]> {
  requireQueryable(db);
  const rows = await ask(
    db,
    `select name, cron, timezone, channel, payload::text as payload, key, headers::text as headers,
      missed, ${ms("next_at")}, ${ms("last_at")}, last_id, problem, ${ms("created_at")}, owner
    from hark.schedules()`,
  );
  return rows.map((row) => ({
    name: row.name,
    cron: row.cron,
    timezone: row.timezone,
    channel: row.channel,
    payload: parse(row.payload),
    key: row.key,
    headers: row.headers === null ? null : parse(row.headers),
    missed: row.missed,
    nextAt: date(row.next_at),
    lastAt: date(row.last_at),
    lastId: row.last_id === null ? null : toId(row.last_id),
    problem: row.problem,
    createdAt: date(row.created_at)!,
    owner: row.owner,
  }));
}

/** The schedules in short, without a look at the schema. */
export async function schedulesStatus(db: Queryable): Promise<SchedulesStatus> {
  const { rows: [row] } = await db.query(
    `select count(*)::integer as count, extract(epoch from min(next_at))::float8 * 1000 as next_at,
      coalesce(json_agg(name order by name) filter (where problem is not null), '[]')::text as problems
    from hark.schedules()`,
  );
  return {
    count: Number(row.count),
    nextAt: date(row.next_at),
    problems: JSON.parse(row.problems),
  };
}

function scheduleName(name: unknown): void {
  if (typeof name !== "string" || name === "" || [...name].length > 200) {
    bad("the schedule's name", name, "Give a name of 1 to 200 characters.");
  }
  text("the schedule's name", name, "BAD_OPTION");
}
