/**
 * Publishing, through any driver and inside any transaction.
 *
 * @module
 */

import { bad, toId } from "../check.ts";
import { type AnyChannel, type Channel, definitionOf } from "../channels/kind.ts";
import { queryPrepared } from "../database/prepared.ts";
import { firstQuery, type Queryable, requireQueryable } from "../database/queryable.ts";
import { type Carried, type Publishing, seam } from "../observe/seam.ts";
import { published } from "./error.ts";
import type { NotifyOptions } from "./options.ts";
import {
  type CompleteNotification,
  manyStatement,
  type NewNotification,
  oneStatement,
} from "./statement.ts";

export type { CompleteNotification, NewNotification, NotifyOptions };

/** The result of {@linkcode notifyOnce}, and of {@linkcode notifyEach} for each notification. */
export interface Published {
  /**
   * The notification's id in the log. For a delayed notification: the number under which it is
   * kept.
   */
  readonly id: number;
  /** Whether the notification is delayed, so that `id` is its number and not an id in the log. */
  readonly isDelayed: boolean;
  /**
   * Whether nothing was published because the dedupe key was taken. `id` is then the id of the
   * notification that took the key.
   */
  readonly isDuplicate: boolean;
}

/**
 * Publishes a notification. It is stored in the log in the transaction that `db` is in, so it
 * exists if and only if that transaction commits. Readers that sleep on the channel are woken at
 * the commit.
 *
 * With `delay` or `deliverAt` the notification is delayed: it is kept outside the log. It gets its
 * id and its `createdAt` when any running consumer, `drain()` or `subscribe` delivers it. It is
 * never early, and it is late if nothing runs. Delayed notifications that are due at the same
 * moment are delivered in the order of their numbers.
 *
 * With `dedupe`, only the first call with a given key publishes until the key expires. If an open
 * transaction has published under the same key, this call waits for it, and publishes if that
 * transaction rolls back. In REPEATABLE READ and SERIALIZABLE the wait may end with PostgreSQL's
 * error 40001 (`DATABASE`): run your transaction again. `hark cleanup` removes expired keys.
 *
 * @param db A {@linkcode Queryable} that runs the query. Give your own transaction to publish
 * inside it.
 * @param channel The channel: 1 to 200 characters of any kind. Or a typed channel, of `channel()`:
 * its schema checks the payload.
 * @param payload Anything that JSON can hold; `{}` if it is left out. What JSON would silently change
 * is refused with its place: NaN, a bigint, a function, a Map, an Error, an invalid Date, a typed
 * array, an object of a class without fields, undefined in an array. A Date becomes ISO text, an
 * object with `toJSON()` what that returns, and -0 becomes 0. A field that is undefined is left out. A payload over 64 MB is not delivered; `jsonb` takes
 * up to 256 MB (https://www.postgresql.org/docs/current/datatype-json.html).
 * @returns The notification's id. Ids rise in the order in which they are drawn, not in the order
 * of commits. For a delayed notification the result is **not an id** but its number, for
 * {@linkcode cancelDelayed}. For a duplicate it is the result of the first call: its number while
 * that notification is delayed, else its id.
 * @throws {HarkError} `BAD_CHANNEL`, `BAD_PAYLOAD` or `BAD_OPTION` before anything is sent. Errors
 * from the server: `NO_SCHEMA`, `NO_PERMISSION`, `UNREACHABLE` and so on.
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
export function notify<Input>(
  db: Queryable,
  // deno-lint-ignore no-explicit-any -- what handlers get does not matter here
  channel: Channel<Input, any, any, any>,
  payload: NoInfer<Input>,
  options?: NotifyOptions,
): Promise<number>;
/** On a channel without a type. */
export function notify(
  db: Queryable,
  channel: string,
  payload?: unknown,
  options?: NotifyOptions,
): Promise<number>;
export async function notify(
  db: Queryable,
  channel: string | AnyChannel,
  payload?: unknown,
  options: NotifyOptions = {},
): Promise<number> {
  // A payload that is left out is {}. One that is undefined was most likely meant to be something.
  const given = arguments.length < 3 ? {} : payload;
  return (await publish(db, channel, given, options)).id;
}

/** Options of {@linkcode notifyOnce}: those of {@linkcode notify}, of which `dedupe` must be given. */
export type NotifyOnceOptions = NotifyOptions & Required<Pick<NotifyOptions, "dedupe">>;

/**
 * {@linkcode notify} with a dedupe key that tells whether it has published. As `hark.notify_once` in SQL.
 *
 * @throws {HarkError} The errors of {@linkcode notify}; `BAD_OPTION` without `dedupe`.
 * @example
 * ```ts
 * import { connect, notifyOnce } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { id, isDuplicate } = await notifyOnce(db, "mail", { to: 7 }, { dedupe: "welcome-7" });
 * console.log(isDuplicate ? `published before, as ${id}` : `published as ${id}`);
 * ```
 */
export function notifyOnce<Input>(
  db: Queryable,
  // deno-lint-ignore no-explicit-any -- what handlers get does not matter here
  channel: Channel<Input, any, any, any>,
  payload: NoInfer<Input>,
  options: NotifyOnceOptions,
): Promise<Published>;
/** On a channel without a type. */
export function notifyOnce(
  db: Queryable,
  channel: string,
  payload: unknown,
  options: NotifyOnceOptions,
): Promise<Published>;
export async function notifyOnce(
  db: Queryable,
  channel: string | AnyChannel,
  payload: unknown,
  options: NotifyOnceOptions,
): Promise<Published> {
  if (options?.dedupe === undefined) {
    bad("dedupe", options?.dedupe, "Give a key, or publish with notify.");
  }
  return await publish(db, channel, payload, options);
}

/** {@linkcode notify} with the full result. */
export async function publish(
  db: Queryable,
  channel: string | AnyChannel,
  payload: unknown,
  options: NotifyOptions,
): Promise<Published> {
  requireQueryable(db);
  const send = async (carried?: Carried): Promise<Published> => {
    const given = oneStatement(channel, payload, options, carried);
    const { text, values } = given instanceof Promise ? await given : given;
    return await published(async () => {
      const { rows } = await queryPrepared(db, text, values);
      return publishedOf(rows[0]);
    });
  };
  const { observer } = seam;
  if (observer === undefined) return await send();
  const what: Publishing = { db, channel: nameOf(channel), key: options?.key, batch: undefined };
  const [sent] = await observer.publish(what, async (carried) => [await send(carried)]);
  return sent!;
}

/** The name of a channel, if it is one. */
function nameOf(channel: unknown): string | undefined {
  const name = definitionOf(channel)?.name ?? channel;
  return typeof name === "string" ? name : undefined;
}

/**
 * What the server returns for one notification. Only hark.notify_each says more than the id. Columns
 * are told by their order, as a driver may rename them (postgres.camel, Kysely's CamelCasePlugin).
 */
function publishedOf(row: object): Published {
  const [id, isDelayed = false, isDuplicate = false] = Object.values(row);
  return { id: toId(id), isDelayed, isDuplicate };
}

/**
 * Publishes many notifications with one statement: all of them or none.
 *
 * @param notifications Up to tens of thousands of notifications, together at most 1 GB of JSON.
 * Each may have the options of {@linkcode notify}.
 * @returns Their ids, in the order given. For delayed notifications and duplicates see
 * {@linkcode notify}.
 * @throws {HarkError} The errors of {@linkcode notify}. Nothing is published if it throws.
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
export async function notifyMany<const Channels extends readonly (string | AnyChannel)[]>(
  db: Queryable,
  notifications: { readonly [At in keyof Channels]: CompleteNotification<Channels[At]> },
): Promise<number[]> {
  return (await notifyEach(db, notifications)).map(({ id }) => id);
}

/**
 * {@linkcode notifyMany} that tells of each notification whether it was published, is delayed or is a
 * duplicate. As `hark.notify_each` in SQL.
 *
 * @throws {HarkError} The errors of {@linkcode notify}. Nothing is published if it throws.
 * @example
 * ```ts
 * import { connect, notifyEach } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const sent = await notifyEach(db, [
 *   { channel: "mail", payload: { to: 7 }, dedupe: "welcome-7" },
 *   { channel: "mail", payload: { to: 8 }, dedupe: "welcome-8" },
 * ]);
 * console.log(sent.filter(({ isDuplicate }) => !isDuplicate).length);
 * ```
 */
export async function notifyEach<const Channels extends readonly (string | AnyChannel)[]>(
  db: Queryable,
  given: { readonly [At in keyof Channels]: CompleteNotification<Channels[At]> },
): Promise<Published[]> {
  const notifications: readonly NewNotification[] = given;
  requireQueryable(db);
  const send = async (carried?: Carried): Promise<readonly Published[]> => {
    const given = manyStatement(notifications, carried);
    const { text, values } = given instanceof Promise ? await given : given;
    if (notifications.length === 0) return [];
    return await published(async () => {
      const { rows } = await firstQuery(db, text, values);
      return rows.map(publishedOf);
    });
  };
  const { observer } = seam;
  if (observer === undefined || !(notifications?.length > 0)) return [...await send()];
  const names = new Set(notifications.map((one) => nameOf(one?.channel)));
  const [channel] = names.size === 1 ? names : [];
  const what: Publishing = { db, channel, key: undefined, batch: notifications.length };
  return [...await observer.publish(what, send)];
}
