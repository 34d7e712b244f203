/**
 * Dead letters: notifications that a consumer has given up.
 *
 * @module
 */

import { bad, channelName, consumerName, knownOptions, text, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { ask } from "../schema/ask.ts";
import { date, ms } from "./times.ts";

/**
 * A dead letter: a notification that a consumer has given up. It is a copy, because cleanup may
 * have removed the original from the log.
 */
export interface DeadNotification {
  /** The consumer that has given the notification up. */
  readonly consumer: string;
  /** The notification's id. */
  readonly id: number;
  /** The notification's channel; null if only its id is left. */
  readonly channel: string | null;
  /** The notification's key; null if it has none. */
  readonly key: string | null;
  /**
   * The published payload. Also null if it cannot be read: it is over 64 MB, is over 256 MB as text,
   * is damaged, or holds bytes that are no UTF-8.
   */
  readonly payload: unknown;
  /** The notification's headers; an empty object if it has none. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** When the notification was published; null if only its id is left. */
  readonly createdAt: Date | null;
  /** How often the notification was tried. */
  readonly attempts: number;
  /** The message of the last error; null if there was none. */
  readonly error: string | null;
  /** When the consumer gave the notification up. */
  readonly diedAt: Date;
}

/**
 * A filter on dead letters, and on waiting notifications: those that match every given field.
 */
export interface DeadLetterFilter {
  /** Those with these ids, at least one. */
  readonly ids?: readonly number[];
  /** Those of this channel. */
  readonly channel?: string;
  /** Those with this key. */
  readonly key?: string;
  /** Those whose last error contains this text, literally and case-sensitively. Not empty. */
  readonly error?: string;
  /** Those with this id or a higher one. */
  readonly fromId?: number;
  /** Those with this id or a lower one. */
  readonly toId?: number;
  /** Dead letters given up at this time or later. No waiting notification matches. */
  readonly diedAfter?: Date;
  /** Dead letters given up before this time. No waiting notification matches. */
  readonly diedBefore?: Date;
}

/** Options of {@linkcode deadLetters}. */
export interface DeadLetterOptions extends DeadLetterFilter {
  /** Dead letters of this consumer. All consumers unless given. */
  readonly consumer?: string;
  /** The maximum number to return, 1 to 1,000,000. @default {100} */
  readonly limit?: number;
  /**
   * Return only dead letters with a higher id than this, to read the next page. Requires
   * `consumer`.
   */
  readonly after?: number;
  /**
   * Whether to read payloads and headers. Without them, `payload` is null and `headers` empty, and a
   * list of large dead letters comes at once. @default {true}
   */
  readonly contents?: boolean;
}

/** The names of the fields of {@linkcode DeadLetterFilter}. */
export const filterNames = [
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
export function filterValues(filter: DeadLetterFilter): unknown[] {
  const { ids, channel, key, error, fromId, toId, diedAfter, diedBefore } = filter;
  if (ids !== undefined && (!Array.isArray(ids) || ids.length === 0)) {
    bad("ids", ids, "Give an array of at least one id.");
  }
  ids?.forEach((id) => wholeNumber("ids", id ?? NaN, 1, 1));
  return [
    ids === undefined ? null : `{${ids.join(",")}}`,
    channel === undefined ? null : channelName(channel),
    key === undefined ? null : words("key", key),
    error === undefined ? null : part("error", error),
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

/** A part of a text. Every text has the empty one. */
function part(name: string, value: unknown): string {
  if (value === "") bad(name, value, "Give text that is not empty.");
  return words(name, value);
}

function time(name: string, value: unknown): string {
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    bad(name, value, "Give a valid Date.");
  }
  return value.toISOString();
}

const matching = `hark.dead_letters(consumer => $1::text, ids => $2::text::bigint[],
  channel => $3::text, key => $4::text, error => $5::text, from_id => $6::bigint, to_id => $7::bigint,
  died_after => $8::text::timestamptz, died_before => $9::text::timestamptz, max_rows => $10::bigint,
  after_id => $11::bigint, contents => $12::boolean)`;

/** How many dead letters of a consumer match. Counting stops at `limit`. */
export async function countDeadLetters(
  db: Queryable,
  consumer: string,
  filter: DeadLetterFilter,
  limit: number,
): Promise<number> {
  const values = [consumerName(consumer), ...filterValues(filter), limit];
  const { rows: [row] } = await translated(() =>
    db.query(
      `select hark.dead_count(consumer => $1::text, ids => $2::text::bigint[], channel => $3::text,
        key => $4::text, error => $5::text, from_id => $6::bigint, to_id => $7::bigint,
        died_after => $8::text::timestamptz, died_before => $9::text::timestamptz,
        max_rows => $10::bigint) as found`,
      values,
    )
  );
  return Number(row.found);
}

/**
 * Lists the dead letters of one consumer or of all, ordered by consumer and id.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
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
  return await readDeadLetters(db, options, JSON.parse);
}

/** The same, with what parses payloads and headers. */
export async function readDeadLetters(
  db: Queryable,
  options: DeadLetterOptions,
  // deno-lint-ignore no-explicit-any -- JSON
  parse: (text: string) => any,
): Promise<DeadNotification[]> {
  knownOptions("deadLetters", options, [...filterNames, "consumer", "limit", "after", "contents"]);
  const consumer = options.consumer === undefined ? null : consumerName(options.consumer);
  const values = filterValues(options);
  const limit = wholeNumber("limit", options.limit, 100, 1, 1_000_000);
  const after = options.after === undefined ? null : wholeNumber("after", options.after, 0, 0);
  const { contents = true } = options;
  if (typeof contents !== "boolean") bad("contents", contents, "Give true or false.");
  const rows = await ask(
    db,
    `select consumer, id, channel, key, payload::text as payload, headers::text as headers,
      ${ms("created_at")}, attempts, error, ${ms("died_at")}
    from ${matching}`,
    [consumer, ...values, limit, after, contents],
  );
  return rows.map((row) => ({
    consumer: row.consumer,
    id: toId(row.id),
    channel: row.channel,
    key: row.key,
    payload: row.payload === null ? null : parse(row.payload),
    headers: row.headers === null ? {} : parse(row.headers),
    createdAt: date(row.created_at),
    attempts: Number(row.attempts),
    error: row.error,
    diedAt: date(row.died_at)!,
  }));
}
