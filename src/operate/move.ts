/**
 * Moving a consumer, and having it handle once more what it has handled.
 *
 * @module
 */

import { bad, channelNames, consumerName, knownOptions, toId } from "../check.ts";
import type { StartFrom } from "../consume/start.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";

/** What a {@linkcode seek} did. */
export interface SeekResult {
  /** How many notifications that were to be tried again became dead letters, as they would not come again. */
  readonly givenUp: number;
}

/**
 * Moves a consumer: from `to` on everything is delivered, again or for the first time, and nothing
 * before. `"end"` is another name for `"now"`. It may run meanwhile: its workers drop what they have
 * read and go on from there; a handler that is at work is not stopped. What waited to be tried again
 * and does not come from there becomes a dead letter, with the error `given up by a seek`. Pending
 * replays end.
 *
 * Give a database or a pool, or a transaction that has written nothing and is READ COMMITTED.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION` for a place that the log does not have, and while
 * the number of partitions is being changed; `IN_TRANSACTION`; `NO_PERMISSION` without
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
  to: StartFrom | "end",
): Promise<SeekResult> {
  const name = consumerName(consumer);
  const [kind, id, time] = target(to);
  await requireSchema(db);
  return await translated(async () => {
    // Where the log was restored to another server: it would undo the move.
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
  /** The first id, or the time from which on: by the clock at the publishing call. */
  readonly from: number | Date;
  /** The last id, or the time until which, included. The end of the log unless given. */
  readonly to?: number | Date;
  /** Only these of its channels. All of them unless given. */
  readonly channels?: string | readonly string[];
}

/**
 * Has a consumer handle once more a range that it has passed already, beside what comes anew; its
 * position stays. What it has not passed yet comes once, in its turn; what waits to be tried again is
 * left to that. Its workers see to it bit by bit, each key in order; what is to be replayed is kept
 * by {@linkcode cleanup} until then. Returns the replay's number, or null where nothing was published
 * in that time.
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
): Promise<number | null> {
  const name = consumerName(consumer);
  knownOptions("replay", options, ["from", "to", "channels"]);
  const [fromId, fromTime] = place("from", options.from);
  const [lastId, toTime] = options.to === undefined ? [null, null] : place("to", options.to);
  const channels = options.channels === undefined ? null : channelNames(options.channels);
  await requireSchema(db);
  const { rows } = await translated(() =>
    db.query(
      `select hark.replay($1::text, $2::bigint, $3::bigint, case when $4::text is not null then
        array(select e.name from json_array_elements_text($4::text::json) e (name)) end,
        $5::text::timestamptz, $6::text::timestamptz) as number`,
      [name, fromId, lastId, channels && JSON.stringify(channels), fromTime, toTime],
    )
  );
  return rows[0].number === null ? null : toId(rows[0].number);
}

/** Where to move: kind, id, time. */
function target(to: StartFrom | "end"): [kind: string, id: number | null, time: string | null] {
  if (to === "beginning" || to === "now" || to === "end") return [to, null, null];
  const names = to !== null && typeof to === "object" ? Object.keys(to) : [];
  if (names.length === 1 && "id" in to && typeof to.id === "number") {
    return ["id", ...place("to.id", to.id)];
  }
  if (names.length === 1 && "time" in to && to.time instanceof Date) {
    return ["time", ...place("to.time", to.time)];
  }
  return bad("to", to, 'Give "beginning", "now", { id } or { time }.');
}

/** An id, or a time. */
function place(name: string, value: unknown): [id: number | null, time: string | null] {
  if (value instanceof Date && !Number.isNaN(value.getTime())) return [null, value.toISOString()];
  if (Number.isSafeInteger(value) && value as number >= 1) return [value as number, null];
  return bad(name, value, "Give the id of a notification, at least 1, or a valid Date.");
}
