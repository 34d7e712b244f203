/**
 * Looking at the log: pages of notifications, and one notification with what became of it.
 *
 * @module
 */

import { bad, channelNames, knownOptions, text, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { payloadText } from "../publish/payload.ts";
import { ask } from "../schema/ask.ts";
import { date, ms } from "./times.ts";

/** A notification of the log. */
export interface LoggedNotification {
  /** The notification's id. */
  readonly id: number;
  /** The notification's channel. */
  readonly channel: string;
  /** The notification's key; null if it has none. */
  readonly key: string | null;
  /** The published payload. Also null if it cannot be read: see `problem`. */
  readonly payload: unknown;
  /** The notification's headers; an empty object if it has none. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** When the notification was published. */
  readonly createdAt: Date;
  /** The size of payload and headers as the server stores them, in bytes. */
  readonly bytes: number;
  /**
   * Why payload and headers cannot be read: over 64 MB, over 256 MB as text, damaged, or bytes that
   * are no UTF-8. Null if they can.
   */
  readonly problem: string | null;
}

/** Which notifications of the log: those that match every given field. */
export interface LogFilter {
  /** Those of this channel, or of one of these. */
  readonly channels?: string | readonly string[];
  /** Those with this id or a higher one, or published at this time or later. */
  readonly from?: number | Date;
  /** Those with this id or a lower one, or published at this time or earlier. */
  readonly to?: number | Date;
  /** Those with this key. */
  readonly key?: string;
  /** Those whose payload contains this JSON, as the operator `@>` of jsonb compares. */
  readonly contains?: unknown;
  /**
   * Those whose payload, as PostgreSQL writes jsonb, has this text in it: literally and
   * case-sensitively. There is a space after each colon and comma: `"city": "Bern"`.
   */
  readonly search?: string;
}

/** Options of {@linkcode notifications}. */
export interface NotificationsOptions extends LogFilter {
  /** Whether the highest id comes first. @default {true} */
  readonly newestFirst?: boolean;
  /** The maximum number to return, 1 to 10,000. @default {100} */
  readonly limit?: number;
  /** Only ids below this one: for the next page, `lookedThrough` of the page before. */
  readonly before?: number;
  /** Only ids above this one: for the next page if the oldest come first. */
  readonly after?: number;
  /**
   * The maximum number of notifications to look at, 1 to 1,000,000. The page also ends after 1 s
   * for each 100,000 of them.
   * @default {100000}
   */
  readonly maxScanned?: number;
}

/** A page of {@linkcode notifications}. */
export interface NotificationsPage {
  /** The notifications that match, by id. */
  readonly notifications: readonly LoggedNotification[];
  /** How many notifications of the log were looked at. */
  readonly looked: number;
  /**
   * The last id that was looked at: everything from the beginning of the range to it is in this page
   * or does not match. For the next page give it as `before`, or as `after` if the oldest come first.
   */
  readonly lookedThrough: number;
  /** Whether the range goes on from there. The next page may still be empty. */
  readonly more: boolean;
}

const filterOptions = ["channels", "from", "to", "key", "contains", "search"];

/** A filter as the SQL functions take it: channels as JSON, key, contains, search, ids and times. */
export function logFilter(filter: LogFilter) {
  const { channels, from, to, key, contains, search } = filter;
  const [fromId, fromTime] = from === undefined ? [null, null] : place("from", from);
  const [toId, toTime] = to === undefined ? [null, null] : place("to", to);
  return {
    channels: channels === undefined ? null : channelNames(channels),
    key: key === undefined ? null : words("key", key),
    contains: contains === undefined ? null : payloadText(contains, "contains"),
    search: search === undefined ? null : words("search", search),
    fromId,
    fromTime,
    toId,
    toTime,
  };
}

function words(name: string, value: unknown): string {
  if (typeof value !== "string" || value === "") bad(name, value, "Give text that is not empty.");
  return text(name, value, "BAD_OPTION");
}

function place(name: string, value: unknown): [id: number | null, time: string | null] {
  if (value instanceof Date && !Number.isNaN(value.getTime())) return [null, value.toISOString()];
  if (Number.isSafeInteger(value) && value as number >= 1) return [value as number, null];
  return bad(name, value, "Give the id of a notification, at least 1, or a valid Date.");
}

/**
 * A page of the log: notifications that match every condition, the newest first unless told
 * otherwise. Nothing is marked as read.
 *
 * The log has no index beside its primary key, the id, so a page is bounded: it ends at `limit` notifications,
 * after `maxScanned` looked at, after some seconds, or at 16 MB of text, and says how far it looked.
 * Go on from there while `more` is true. A transaction that is open now may later add notifications
 * among those that were looked at.
 *
 * @throws {HarkError} `BAD_OPTION`; `BAD_CHANNEL`; `BAD_PAYLOAD` for `contains`; `NO_PERMISSION` without
 * `hark.grant_operate` or `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, notifications } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const since = new Date(Date.now() - 86_400_000);
 * const page = await notifications(db, { channels: "orders", key: "ada", from: since });
 * for (const { id, payload } of page.notifications) console.log(id, payload);
 * if (page.more) console.log("not looked at yet: ids below", page.lookedThrough);
 * ```
 */
export async function notifications(
  db: Queryable,
  options: NotificationsOptions = {},
): Promise<NotificationsPage> {
  return await readNotifications(db, options, JSON.parse);
}

/** The same, with what parses payloads and headers. */
export async function readNotifications(
  db: Queryable,
  options: NotificationsOptions,
  parse: (text: string) => unknown,
): Promise<NotificationsPage> {
  knownOptions("notifications", options, [
    ...filterOptions,
    "newestFirst",
    "limit",
    "before",
    "after",
    "maxScanned",
  ]);
  const filter = logFilter(options);
  const { newestFirst = true } = options;
  if (typeof newestFirst !== "boolean") bad("newestFirst", newestFirst, "Give true or false.");
  const limit = wholeNumber("limit", options.limit, 100, 1, 10_000);
  const maxScanned = wholeNumber("maxScanned", options.maxScanned, 100_000, 1, 1_000_000);
  const below = options.before === undefined
    ? Infinity
    : wholeNumber("before", options.before, 0, 0);
  const above = options.after === undefined ? -1 : wholeNumber("after", options.after, 0, 0);
  const first = Math.max(filter.fromId ?? 0, above + 1);
  const last = Math.min(filter.toId ?? Infinity, below - 1);
  if (last < 0) return { notifications: [], looked: 0, lookedThrough: 0, more: false };
  const rows = await ask(
    db,
    `select id, channel, key, payload, headers, ${ms("created_at")}, bytes, problem,
      looked_through, looked, more
    from hark.notifications(case when $1::text is not null then
        array(select e.name from json_array_elements_text($1::text::json) e (name)) end,
      $2::text, $3::text::jsonb, $4::text, $5::bigint, $6::bigint, $7::text::timestamptz,
      $8::text::timestamptz, $9::boolean, $10::integer, $11::integer, $12::integer)`,
    [
      filter.channels && JSON.stringify(filter.channels),
      filter.key,
      filter.contains,
      filter.search,
      first,
      last === Infinity ? null : last,
      filter.fromTime,
      filter.toTime,
      newestFirst,
      limit,
      maxScanned,
      Math.max(1000, maxScanned / 100),
    ],
  );
  const end = rows.pop();
  return {
    notifications: rows.map((row) => ({ id: toId(row.id), ...logged(row, parse) })),
    looked: Number(end.looked),
    lookedThrough: toId(end.looked_through),
    more: end.more === true,
  };
}

/** A row without its id. */
// deno-lint-ignore no-explicit-any -- a row with the driver's types
export function logged(row: any, parse: (text: string) => any): Omit<LoggedNotification, "id"> {
  return {
    channel: row.channel,
    key: row.key,
    payload: row.payload === null ? null : parse(row.payload),
    headers: row.headers === null ? {} : parse(row.headers),
    createdAt: date(row.created_at)!,
    bytes: Number(row.bytes),
    problem: row.problem,
  };
}
