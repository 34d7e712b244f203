/**
 * Moving a consumer's position, and replaying notifications that it has handled.
 *
 * @module
 */

import { bad, channelNames, consumerName, knownOptions, toId } from "../check.ts";
import { type LogPlace, placeForms } from "../consume/start.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { ask } from "../schema/ask.ts";
import { requireSchema } from "../schema/migrate.ts";

/** The result of a {@linkcode seek}. */
export interface SeekResult {
  /**
   * How many waiting notifications became dead letters, because the move would not deliver them
   * again.
   */
  readonly givenUp: number;
}

/**
 * Moves the position of a consumer. Everything from `to` on is delivered, again or for the first
 * time, and nothing before it. `"end"` is another name for `"now"`.
 *
 * The consumer may be running. Its workers then drop what they have read and continue from the new
 * position; running handlers are not stopped. Waiting notifications that will not be delivered from
 * there become dead letters, with the error `given up by a seek`. Pending replays end.
 *
 * Give a database, a pool, or a READ COMMITTED transaction that has written nothing.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION` for a position that the log does not have, and
 * while the number of partitions is being changed; `IN_TRANSACTION`; `NO_PERMISSION` without
 * `hark.grant_operate`.
 * @example
 * ```ts
 * import { connect, seek } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await seek(db, "billing", { time: new Date(Date.now() - 3_600_000) });
 * ```
 */
export async function seek(
  db: Queryable,
  consumer: string,
  to: LogPlace | "end",
): Promise<SeekResult> {
  const name = consumerName(consumer);
  const [kind, id, time] = target(to);
  await requireSchema(db);
  return await translated(async () => {
    // If the log was restored to another server, the first read there resets all positions and
    // would undo the move. So let that happen first.
    await db.query("select hark.rebase()");
    const { rows } = await db.query(
      "select hark.seek($1::text, $2::text, $3::bigint, $4::text::timestamptz) as given_up",
      [name, kind, id, time],
    );
    return { givenUp: Number(rows[0].given_up) };
  });
}

/** Options of {@linkcode replay}. */
export interface ReplayOptions {
  /** The start of the range: the first id, or the earliest time at which `notify` was called. */
  readonly from: number | Date;
  /**
   * The end of the range, included: the last id, or the latest time. The end of the log unless
   * given.
   */
  readonly to?: number | Date;
  /** Only these of the consumer's channels. All of them unless given. */
  readonly channels?: string | readonly string[];
}

/** A range that a consumer will handle again: the result of {@linkcode replay}. */
export interface Replay {
  /** Its number, as `replayList` of {@linkcode consumerDetails} has it. */
  readonly number: number;
  /**
   * How many notifications of the consumer the range has, counted among its first 50,000 of all
   * channels. Includes those that the consumer has not passed and those that wait for a retry.
   */
  readonly count: number;
  /** Whether the range goes on behind those that were counted. */
  readonly capped: boolean;
}

/**
 * Has a consumer handle again a range of notifications that it has already passed. They are
 * delivered alongside new notifications, and the consumer's position does not move.
 *
 * Notifications in the range that the consumer has not passed are delivered once, in their turn. What it has
 * handled while an earlier one is still in hand is not passed, and is not handled again.
 * Notifications that already wait for a retry are not added a second time. The workers replay the
 * range step by step, each key in order. {@linkcode cleanup} keeps notifications until they are
 * replayed. Returns the replay's number and size, or null if the log has nothing in the range.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION` for a range that the log does not have, and for a
 * channel that the consumer does not read; `NO_PERMISSION` without `hark.grant_operate`.
 * @example
 * ```ts
 * import { connect, replay } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await replay(db, "billing", { from: 1000, to: 2000 });
 * await replay(db, "billing", { from: new Date(Date.now() - 3_600_000), channels: "orders" });
 * ```
 */
export async function replay(
  db: Queryable,
  consumer: string,
  options: ReplayOptions,
): Promise<Replay | null> {
  const name = consumerName(consumer);
  knownOptions("replay", options, ["from", "to", "channels"], "{ from: 1000 }");
  const [fromId, fromTime] = place("from", options.from);
  const [lastId, toTime] = options.to === undefined ? [null, null] : place("to", options.to);
  const channels = options.channels === undefined ? null : channelNames(options.channels);
  const rows = await ask(
    db,
    `with made (number) as materialized (
      select hark.replay($1::text, $2::bigint, $3::bigint, case when $4::text is not null then
        array(select e.name from json_array_elements_text($4::text::json) e (name)) end,
        $5::text::timestamptz, $6::text::timestamptz)
    )
    select m.number, k.notifications, k.capped from made m
    cross join lateral hark.replay_count(m.number) k`,
    [name, fromId, lastId, channels && JSON.stringify(channels), fromTime, toTime],
  );
  const [{ number, notifications, capped }] = rows as [Record<string, unknown>];
  if (number === null) return null;
  return { number: toId(number), count: toId(notifications), capped: capped === true };
}

/** Turns a target into the arguments of hark.seek: kind, id and time. */
function target(to: LogPlace | "end"): [kind: string, id: number | null, time: string | null] {
  if (to === "beginning" || to === "now" || to === "end") return [to, null, null];
  const names = to !== null && typeof to === "object" ? Object.keys(to) : [];
  if (names.length === 1 && "id" in to && typeof to.id === "number") {
    return ["id", ...place("to.id", to.id)];
  }
  if (names.length === 1 && "time" in to && to.time instanceof Date) {
    return ["time", ...place("to.time", to.time)];
  }
  return bad("to", to, `Give "beginning", "now", ${placeForms}.`);
}

/** Turns an id or a time into two arguments, one of which is null. */
export function place(name: string, value: unknown): [id: number | null, time: string | null] {
  if (value instanceof Date && !Number.isNaN(value.getTime())) return [null, value.toISOString()];
  if (Number.isSafeInteger(value) && value as number >= 1) return [value as number, null];
  return bad(name, value, "Give the id of a notification, at least 1, or a valid Date.");
}
