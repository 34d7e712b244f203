/**
 * Dead letters: notifications that a consumer has given up.
 *
 * @module
 */

import { bad, channelName, consumerName, knownOptions, text, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { requireSchema } from "../schema/migrate.ts";
import { date, ms } from "./times.ts";

/** A notification that a consumer has given up, with a copy, as the log may not have it any more. */
export interface DeadNotification {
  /** The consumer. */
  readonly consumer: string;
  /** The notification's id. */
  readonly id: number;
  /** Its channel; null where nothing is left of it but its id. */
  readonly channel: string | null;
  /** Its key. */
  readonly key: string | null;
  /** What was published; null also where it cannot be read, as it takes more than 64 MB, or 256 MB as text. */
  readonly payload: unknown;
  /** Its headers; an empty object where there are none. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** When it was published. */
  readonly createdAt: Date | null;
  /** How often it was tried. */
  readonly attempts: number;
  /** The last error's message. */
  readonly error: string | null;
  /** When it was given up. */
  readonly diedAt: Date;
}

/** Which dead letters: those that fit all that is given. */
export interface DeadLetterFilter {
  /** These ids, at least one. */
  readonly ids?: readonly number[];
  /** Of this channel. */
  readonly channel?: string;
  /** Of this key. */
  readonly key?: string;
  /** With this in the error's message, as it is: no pattern, and upper case counts. */
  readonly error?: string;
  /** This id and above. */
  readonly fromId?: number;
  /** This id and below. */
  readonly toId?: number;
  /** Given up at this time or after it. */
  readonly diedAfter?: Date;
  /** Given up before this time. */
  readonly diedBefore?: Date;
}

/** Options of {@linkcode deadLetters}. */
export interface DeadLetterOptions extends DeadLetterFilter {
  /** Of this consumer; of all unless given. */
  readonly consumer?: string;
  /** At most so many. @default {100} */
  readonly limit?: number;
  /** Those after this id, to go on; needs `consumer`. */
  readonly after?: number;
}

/** Options of {@linkcode retryDead} and {@linkcode discardDead}: a filter, or `all`. */
export interface DeadLetterChoice extends DeadLetterFilter {
  /** All of the consumer's, which has to be said. */
  readonly all?: true;
}

const filterNames = [
  "ids",
  "channel",
  "key",
  "error",
  "fromId",
  "toId",
  "diedAfter",
  "diedBefore",
] as const;

/** The filter as the SQL functions take it. */
function filterValues(filter: DeadLetterFilter): unknown[] {
  const { ids, channel, key, error, fromId, toId, diedAfter, diedBefore } = filter;
  if (ids !== undefined && (!Array.isArray(ids) || ids.length === 0)) {
    bad("ids", ids, "Give an array of at least one id.");
  }
  ids?.forEach((id) => wholeNumber("ids", id ?? NaN, 1, 1));
  return [
    ids === undefined ? null : `{${ids.join(",")}}`,
    channel === undefined ? null : channelName(channel),
    key === undefined ? null : words("key", key),
    error === undefined ? null : words("error", error),
    fromId === undefined ? null : wholeNumber("fromId", fromId, 1, 1),
    toId === undefined ? null : wholeNumber("toId", toId, 1, 1),
    diedAfter === undefined ? null : time("diedAfter", diedAfter),
    diedBefore === undefined ? null : time("diedBefore", diedBefore),
  ];
}

function words(name: string, value: unknown): string {
  if (typeof value !== "string") bad(name, value, "Give text.");
  return text(name, value, "BAD_OPTION");
}

function time(name: string, value: unknown): string {
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    bad(name, value, "Give a valid Date.");
  }
  return value.toISOString();
}

const types =
  "$2::text::bigint[], $3::text, $4::text, $5::text, $6::bigint, $7::bigint, $8::text::timestamptz, " +
  "$9::text::timestamptz";

/**
 * Dead letters, by consumer and id: of one consumer or of all.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate`;
 * `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, deadLetters } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { id, payload, error } of await deadLetters(db, { consumer: "billing" })) {
 *   console.log(id, payload, error);
 * }
 * ```
 */
export async function deadLetters(
  db: Queryable,
  options: DeadLetterOptions = {},
): Promise<DeadNotification[]> {
  knownOptions("deadLetters", options, [...filterNames, "consumer", "limit", "after"]);
  const consumer = options.consumer === undefined ? null : consumerName(options.consumer);
  const values = filterValues(options);
  const limit = wholeNumber("limit", options.limit, 100, 1, 1_000_000);
  const after = options.after === undefined ? null : wholeNumber("after", options.after, 0, 0);
  await requireSchema(db);
  const { rows } = await translated(() =>
    db.query(
      `select consumer, id, channel, key, payload::text as payload, headers::text as headers,
        ${ms("created_at")}, attempts, error, ${ms("died_at")}
      from hark.dead_letters(consumer => $1::text, ids => $2::text::bigint[], channel => $3::text,
        key => $4::text, error => $5::text, from_id => $6::bigint, to_id => $7::bigint,
        died_after => $8::text::timestamptz, died_before => $9::text::timestamptz,
        max_rows => $10::bigint, after_id => $11::bigint)`,
      [consumer, ...values, limit, after],
    )
  );
  return rows.map((row) => ({
    consumer: row.consumer,
    id: toId(row.id),
    channel: row.channel,
    key: row.key,
    payload: row.payload === null ? null : JSON.parse(row.payload),
    headers: row.headers === null ? {} : JSON.parse(row.headers),
    createdAt: date(row.created_at),
    attempts: Number(row.attempts),
    error: row.error,
    diedAt: date(row.died_at)!,
  }));
}

/**
 * Has a consumer handle dead letters again, from their first attempt on: those that a filter fits, or
 * `all`. They come beside what is new; each key's in order of ids. Returns how many. One of which
 * nothing is left but its id stays.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`, also without a filter and `all`; `NO_PERMISSION`
 * without `hark.grant_operate`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, retryDead } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await retryDead(db, "billing", { error: "out of paper" }));
 * ```
 */
export async function retryDead(
  db: Queryable,
  consumer: string,
  which: DeadLetterChoice,
): Promise<number> {
  return await change(db, "retry_dead", consumer, which);
}

/**
 * Removes dead letters of a consumer for good: those that a filter fits, or `all`. Returns how many.
 *
 * @throws {HarkError} as {@linkcode retryDead}.
 * @example
 * ```ts
 * import { connect, discardDead } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const month = new Date(Date.now() - 30 * 86_400_000);
 * console.log(await discardDead(db, "billing", { diedBefore: month }));
 * ```
 */
export async function discardDead(
  db: Queryable,
  consumer: string,
  which: DeadLetterChoice,
): Promise<number> {
  return await change(db, "discard_dead", consumer, which);
}

async function change(
  db: Queryable,
  how: "retry_dead" | "discard_dead",
  consumer: string,
  which: DeadLetterChoice,
): Promise<number> {
  const name = consumerName(consumer);
  const what = how === "retry_dead" ? "retryDead" : "discardDead";
  knownOptions(what, which ?? null, [...filterNames, "all"]);
  const values = filterValues(which);
  const filtered = values.some((value) => value !== null);
  if (which.all !== undefined && which.all !== true) {
    bad("all", which.all, "Give true, or nothing.");
  }
  if (filtered === (which.all === true)) {
    throw new HarkError(
      "BAD_OPTION",
      filtered ? "all and a filter contradict each other" : `${what} was not told which`,
      { remedy: "Give ids or another filter, or { all: true }." },
    );
  }
  await requireSchema(db);
  const { rows } = await translated(() =>
    db.query(`select hark.${how}($1::text, ${types}) as count`, [name, ...values])
  );
  return Number(rows[0].count);
}
