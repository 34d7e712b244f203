/**
 * Publishing, on any driver and inside any transaction.
 *
 * @module
 */

import { bad, channelName, knownOptions, toId } from "../check.ts";
import { queryAgain } from "../database/again.ts";
import type { Queryable } from "../database/queryable.ts";
import { published } from "../database/translate.ts";
import { isForLater, type LaterOptions, laterOptions, laterText } from "./later.ts";
import { headersText, keyText, payloadText } from "./payload.ts";

/** Options of {@linkcode notify}. */
export interface NotifyOptions extends LaterOptions {
  /**
   * What the notification is about, at most 1,000 characters. Notifications of one key are handled in
   * order; those without a key have no order among several partitions.
   */
  readonly key?: string | null;
  /** Facts about the notification: a trace, who, why. An object that JSON can hold. */
  readonly headers?: Readonly<Record<string, unknown>> | null;
}

/** One notification for {@linkcode notifyMany}. */
export interface NewNotification extends NotifyOptions {
  /** The channel, 1 to 200 characters. */
  readonly channel: string;
  /** Anything JSON can hold. @default {{}} */
  readonly payload?: unknown;
}

/** What became of a notification. */
export interface Published {
  /** In the log; where it is delayed, the number it waits under. */
  readonly id: number;
  /** Whether `id` is a number of those that wait, not an id. */
  readonly isDelayed: boolean;
  /** Nothing was published: `id` is what the first one under its dedupe key got. */
  readonly isDuplicate: boolean;
}

const optionNames = ["key", "headers", ...laterOptions];

/**
 * Publishes a notification: stores it in the log in the transaction `db` is in, so that it exists if
 * and only if that commits, and wakes who waits for it.
 *
 * With `delay` or `deliverAt` it waits outside the log and gets its id, and its `createdAt`, when a
 * running consumer, `drain()` or `subscribe` delivers it: never early, late where nobody runs. Those of
 * one moment are delivered in the order of their numbers.
 *
 * With `dedupe` the first under a key publishes, and who comes within the time publishes nothing. A
 * transaction that is still open under the same key is waited for; where it rolls back, this one
 * publishes. In REPEATABLE READ and SERIALIZABLE the wait may end with PostgreSQL's 40001 (`DATABASE`):
 * run your transaction again. `hark cleanup` removes keys that have expired.
 *
 * @param db What runs the query: a {@linkcode Queryable}, in your own transaction where you want one.
 * @param channel 1 to 200 characters, any.
 * @param payload Anything JSON can hold. What takes over 64 MB is not delivered; `jsonb` takes up to 256 MB
 * (https://www.postgresql.org/docs/current/datatype-json.html).
 * @returns The notification's id. Ids rise in the order they are drawn, not in that of commits. For a
 * delayed one it is **not an id** but the number it waits under, for {@linkcode cancelDelayed}. For a
 * duplicate it is the first one's: its number while that waits, else its id.
 * @throws {HarkError} `BAD_CHANNEL`, `BAD_PAYLOAD` or `BAD_OPTION` before anything is sent;
 * `NO_SCHEMA`, `NO_PERMISSION`, `UNREACHABLE` and so on from the server.
 * @example
 * ```ts
 * import { connect, notify } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const id = await notify(db, "orders", { id: 42 }, { key: "order-42" });
 * ```
 * @example In an hour, and once however often this runs
 * ```ts
 * import { connect, notify } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await notify(db, "reminders", { order: 42 }, { delay: 3_600_000, dedupe: "reminder-42" });
 * ```
 */
export async function notify(
  db: Queryable,
  channel: string,
  payload: unknown = {},
  options: NotifyOptions = {},
): Promise<number> {
  return (await publish(db, channel, payload, options)).id;
}

/** {@linkcode notify}, saying more of what became of it. */
export async function publish(
  db: Queryable,
  channel: string,
  payload: unknown,
  options: NotifyOptions,
): Promise<Published> {
  queryable(db);
  knownOptions("notify", options, optionNames);
  if (isForLater(options)) {
    const [done] = await publishEach(db, [itemText({ ...options, channel, payload })]);
    return done!;
  }
  const values = [
    channelName(channel),
    payloadText(payload),
    keyText(options.key),
    headersText(options.headers),
  ];
  return await published(async () => {
    const { rows } = await queryAgain(
      db,
      "select hark.notify($1::text, $2::text::jsonb, $3::text, $4::text::jsonb) as id",
      values,
    );
    return { id: toId(rows[0].id), isDelayed: false, isDuplicate: false };
  });
}

/**
 * Publishes many notifications with one statement, all or none.
 *
 * @param notifications Up to tens of thousands; together at most 1 GB of JSON. Each may have what
 * {@linkcode notify} takes.
 * @returns Their ids, in the order given; for what is delayed or a duplicate see {@linkcode notify}.
 * @throws {HarkError} As {@linkcode notify}; nothing is published then.
 * @example
 * ```ts
 * import { connect, notifyMany } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const ids = await notifyMany(db, [
 *   { channel: "orders", payload: { id: 1 } },
 *   { channel: "orders", payload: { id: 2 }, key: "order-2" },
 *   { channel: "reminders", payload: { order: 2 }, delay: 60_000 },
 * ]);
 * ```
 */
export async function notifyMany(
  db: Queryable,
  notifications: readonly NewNotification[],
): Promise<number[]> {
  return (await publishMany(db, notifications)).map(({ id }) => id);
}

/** {@linkcode notifyMany}, saying more of what became of each. */
export async function publishMany(
  db: Queryable,
  notifications: readonly NewNotification[],
): Promise<Published[]> {
  queryable(db);
  if (!Array.isArray(notifications)) {
    bad("notifications", notifications, "Give an array of { channel, payload, key, headers }.");
  }
  if (notifications.length === 0) return [];
  const items = notifications.map((n: NewNotification) => {
    knownOptions("a notification", n, ["channel", "payload", ...optionNames]);
    return itemText(n);
  });
  if (notifications.some(isForLater)) return await publishEach(db, items);
  return await published(async () => {
    const { rows } = await db.query(
      "select hark.notify_many($1::text::json) as id",
      [`[${items.join(",")}]`],
    );
    return rows.map((row) => ({ id: toId(row.id), isDelayed: false, isDuplicate: false }));
  });
}

/** A notification as JSON text for hark.notify_many and hark.notify_each. */
function itemText(n: NewNotification): string {
  const channel = JSON.stringify(channelName(n.channel));
  const payload = payloadText(n.payload === undefined ? {} : n.payload);
  const key = keyText(n.key);
  const headers = headersText(n.headers);
  return `{"channel":${channel},"payload":${payload}` +
    (key === null ? "" : `,"key":${JSON.stringify(key)}`) +
    (headers === null ? "" : `,"headers":${headers}`) +
    `${isForLater(n) ? laterText(n) : ""}}`;
}

async function publishEach(db: Queryable, items: readonly string[]): Promise<Published[]> {
  return await published(async () => {
    const { rows } = await db.query(
      "select id, is_delayed, is_duplicate from hark.notify_each($1::text::json)",
      [`[${items.join(",")}]`],
    );
    return rows.map((row) => ({
      id: toId(row.id),
      isDelayed: row.is_delayed,
      isDuplicate: row.is_duplicate,
    }));
  });
}

/** Refuses what cannot run a query. */
export function queryable(db: unknown): void {
  if (typeof (db as Queryable | undefined)?.query !== "function") {
    bad("db", db, "Give a Database, a pg.Client or Pool, a PGlite, or a wrapped driver.");
  }
}
