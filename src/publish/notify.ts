/**
 * Publishing, on any driver and inside any transaction.
 *
 * @module
 */

import { bad, channelName, knownOptions, toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { published } from "../database/translate.ts";
import { headersText, keyText, payloadText } from "./payload.ts";

/** Options of {@linkcode notify}. */
export interface NotifyOptions {
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

/**
 * Publishes a notification: stores it in the log in the transaction `db` is in, so that it exists if
 * and only if that commits, and wakes who waits for it.
 *
 * @param db What runs the query: a {@linkcode Queryable}, in your own transaction where you want one.
 * @param channel 1 to 200 characters, any.
 * @param payload Anything JSON can hold; `jsonb` takes up to 256 MB
 * (https://www.postgresql.org/docs/current/datatype-json.html).
 * @returns The notification's id. Ids rise in the order they are drawn, not in that of commits.
 * @throws {HarkError} `BAD_CHANNEL`, `BAD_PAYLOAD` or `BAD_OPTION` before anything is sent;
 * `NO_SCHEMA`, `NO_PERMISSION`, `UNREACHABLE` and so on from the server.
 * @example
 * ```ts
 * import { connect, notify } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const id = await notify(db, "orders", { id: 42 }, { key: "order-42" });
 * ```
 */
export async function notify(
  db: Queryable,
  channel: string,
  payload: unknown = {},
  options: NotifyOptions = {},
): Promise<number> {
  queryable(db);
  knownOptions("notify", options, ["key", "headers"]);
  const values = [
    channelName(channel),
    payloadText(payload),
    keyText(options.key),
    headersText(options.headers),
  ];
  return await published(async () => {
    const { rows } = await db.query(
      "select hark.notify($1::text, $2::text::jsonb, $3::text, $4::text::jsonb) as id",
      values,
    );
    return toId(rows[0].id);
  });
}

/**
 * Publishes many notifications with one statement, all or none.
 *
 * @param notifications Up to tens of thousands; together at most 1 GB of JSON.
 * @returns Their ids, in the order given.
 * @throws {HarkError} As {@linkcode notify}; nothing is published then.
 * @example
 * ```ts
 * import { connect, notifyMany } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const ids = await notifyMany(db, [
 *   { channel: "orders", payload: { id: 1 } },
 *   { channel: "orders", payload: { id: 2 }, key: "order-2" },
 * ]);
 * ```
 */
export async function notifyMany(
  db: Queryable,
  notifications: readonly NewNotification[],
): Promise<number[]> {
  queryable(db);
  if (!Array.isArray(notifications)) {
    bad("notifications", notifications, "Give an array of { channel, payload, key, headers }.");
  }
  if (notifications.length === 0) return [];
  const items = notifications.map((n: NewNotification) => {
    knownOptions("a notification", n, ["channel", "payload", "key", "headers"]);
    const channel = JSON.stringify(channelName(n.channel));
    const payload = payloadText(n.payload === undefined ? {} : n.payload);
    const key = keyText(n.key);
    const headers = headersText(n.headers);
    return `{"channel":${channel},"payload":${payload}` +
      (key === null ? "" : `,"key":${JSON.stringify(key)}`) +
      (headers === null ? "}" : `,"headers":${headers}}`);
  });
  return await published(async () => {
    const { rows } = await db.query(
      "select hark.notify_many($1::text::json) as id",
      [`[${items.join(",")}]`],
    );
    return rows.map((row) => toId(row.id));
  });
}

function queryable(db: unknown): void {
  if (typeof (db as Queryable | undefined)?.query !== "function") {
    bad("db", db, "Give a Database, a pg.Client or Pool, a PGlite, or a wrapped driver.");
  }
}
