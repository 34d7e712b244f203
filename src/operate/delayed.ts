/**
 * The notifications that are not due yet.
 *
 * @module
 */

import { bad, channelName, knownOptions, text, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";
import { date, ms } from "./times.ts";

/** A notification that was published with `delay` or `deliverAt` and is not in the log yet. */
export interface DelayedNotification {
  /** Its number, for {@linkcode cancelDelayed}. It is not an id of the log. */
  readonly number: number;
  /** The channel. */
  readonly channel: string;
  /** The key; null if it has none. */
  readonly key: string | null;
  /** The payload. Also null if it cannot be read: see `problem`. */
  readonly payload: unknown;
  /** The headers; an empty object if it has none. */
  readonly headers: Readonly<Record<string, unknown>>;
  /** When it is due. A time more than moments in the past means that no worker runs. */
  readonly deliverAt: Date;
  /** When it was published. */
  readonly createdAt: Date;
  /** The role that published it. */
  readonly owner: string;
  /** Why payload and headers cannot be read; null if they can. */
  readonly problem: string | null;
}

/** Options of {@linkcode delayedNotifications}. */
export interface DelayedOptions {
  /** Those of this channel. */
  readonly channel?: string;
  /** Those with this key. */
  readonly key?: string;
  /** The maximum number to return, 1 to 10,000. @default {100} */
  readonly limit?: number;
  /**
   * Go on after the notification with this number, the last one of the page before. It is refused if that
   * one was delivered or cancelled since.
   */
  readonly after?: number;
}

/**
 * Lists delayed notifications, the next one due first.
 *
 * @throws {HarkError} `BAD_OPTION`; `BAD_CHANNEL`; `NO_PERMISSION` without `hark.grant_operate`
 * or `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, delayedNotifications } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { number, channel, deliverAt } of await delayedNotifications(db)) {
 *   console.log(number, channel, deliverAt);
 * }
 * ```
 */
export async function delayedNotifications(
  db: Queryable,
  options: DelayedOptions = {},
): Promise<DelayedNotification[]> {
  return await readDelayed(db, options, JSON.parse);
}

/** The same, with what parses payloads and headers. */
export async function readDelayed(
  db: Queryable,
  options: DelayedOptions,
  // deno-lint-ignore no-explicit-any -- JSON
  parse: (text: string) => any,
): Promise<DelayedNotification[]> {
  knownOptions("delayedNotifications", options, ["channel", "key", "limit", "after"]);
  const { channel, key } = options;
  if (key !== undefined && typeof key !== "string") bad("key", key, "Give text.");
  const values = [
    channel === undefined ? null : channelName(channel),
    key === undefined ? null : text("key", key, "BAD_OPTION"),
    wholeNumber("limit", options.limit, 100, 1, 10_000),
    options.after === undefined ? null : wholeNumber("after", options.after, 1, 1),
  ];
  const rows = await ask(
    db,
    `select number, channel, key, payload, headers, ${ms("deliver_at")}, ${ms("created_at")},
      owner, problem
    from hark.delayed_notifications($1::text, $2::text, $3::integer, $4::bigint)`,
    values,
  );
  return rows.map((row) => ({
    number: toId(row.number),
    channel: row.channel,
    key: row.key,
    payload: row.payload === null ? null : parse(row.payload),
    headers: row.headers === null ? {} : parse(row.headers),
    deliverAt: date(row.deliver_at)!,
    createdAt: date(row.created_at)!,
    owner: row.owner,
    problem: row.problem,
  }));
}
