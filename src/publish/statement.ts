/**
 * The statements that publish: for a driver that takes several at once, and for `notify` itself.
 *
 * @module
 */

import { bad, channelName, knownOptions, show } from "../check.ts";
import { encode, type Encoded } from "../channels/encode.ts";
import {
  type AnyChannel,
  type Channel,
  type ChannelInput,
  definitionOf,
} from "../channels/kind.ts";
import { errorAt, HarkError } from "../errors.ts";
import { type Carried, seam } from "../observe/seam.ts";
import { isForLater, laterOptions, laterText } from "./later.ts";
import type { NotifyOptions } from "./options.ts";
import { headersText, keyText, payloadText, withCarried } from "./payload.ts";

/** One notification for {@linkcode notifyMany}. */
export interface NewNotification<On extends string | AnyChannel = string | AnyChannel>
  extends NotifyOptions {
  /** The channel, 1 to 200 characters, or a typed channel. */
  readonly channel: On;
  /**
   * The payload: anything that JSON can hold, as {@linkcode notify} takes it. It may be left out if
   * the channel has no type.
   *
   * @default {{}}
   */
  readonly payload?: ChannelInput<On>;
}

/**
 * One notification as {@linkcode notifyMany} takes it: on a typed channel with its payload, unless its
 * type has undefined.
 */
export type CompleteNotification<On extends string | AnyChannel> =
  & NewNotification<On>
  & (undefined extends ChannelInput<On> ? unknown : { readonly payload: ChannelInput<On> });

/** One SQL statement with numbered parameters, for your driver to run. */
export interface Statement {
  /** The SQL. */
  readonly text: string;
  /** The values of `$1`, `$2` and so on. Each is text or null. */
  readonly values: (string | null)[];
}

const optionNames = ["key", "headers", ...laterOptions];

/**
 * The statement that publishes a notification, for a driver that takes several statements at once.
 * An example is an HTTP driver whose transaction is a list of statements. Nothing is sent yet.
 *
 * The statement returns one row. Its `id` is what {@linkcode notify} returns, as your driver reads
 * a `bigint`. Errors are those of your driver: {@linkcode harkError} gives them their code.
 *
 * @param channel As for {@linkcode notify}.
 * @param payload As for {@linkcode notify}.
 * @throws {HarkError} `BAD_CHANNEL`, `BAD_PAYLOAD` or `BAD_OPTION`.
 * @example A transaction of Neon's HTTP driver
 * ```ts
 * import { notifyStatement, type Statement } from "@hark/postgres/publish";
 *
 * declare const sql: {
 *   query(text: string, values: unknown[]): unknown;
 *   transaction(queries: unknown[]): Promise<unknown[]>;
 * };
 * const run = ({ text, values }: Statement) => sql.query(text, values);
 * await sql.transaction([
 *   sql.query("insert into orders (id) values ($1)", [42]),
 *   run(await notifyStatement("orders", { id: 42 }, { key: "order-42" })),
 * ]);
 * ```
 */
export function notifyStatement<Input>(
  // deno-lint-ignore no-explicit-any -- what handlers get does not matter here
  channel: Channel<Input, any, any, any>,
  payload: NoInfer<Input>,
  options?: NotifyOptions,
): Promise<Statement>;
/** On a channel without a type. */
export function notifyStatement(
  channel: string,
  payload?: unknown,
  options?: NotifyOptions,
): Promise<Statement>;
export async function notifyStatement(
  channel: string | AnyChannel,
  payload?: unknown,
  options: NotifyOptions = {},
): Promise<Statement> {
  const given = arguments.length < 2 ? {} : payload;
  return await oneStatement(channel, given, options, seam.observer?.carry());
}

/**
 * The statement that publishes many notifications, all or none, as {@linkcode notifyStatement} is
 * for one. It returns a row for each, in the order given.
 *
 * @param notifications As for {@linkcode notifyMany}.
 * @throws {HarkError} As {@linkcode notifyStatement}.
 * @example
 * ```ts
 * import { notifyManyStatement } from "@hark/postgres/publish";
 *
 * const { text, values } = await notifyManyStatement([
 *   { channel: "orders", payload: { id: 1 } },
 *   { channel: "orders", payload: { id: 2 }, delay: "1m" },
 * ]);
 * ```
 */
export async function notifyManyStatement<
  const Channels extends readonly (string | AnyChannel)[],
>(
  notifications: { readonly [At in keyof Channels]: CompleteNotification<Channels[At]> },
): Promise<Statement> {
  return await manyStatement(notifications, seam.observer?.carry());
}

/**
 * The statement for one notification. On a channel without a type it is there at once: so a call of
 * `notify` that is not awaited has sent it when it returns.
 */
export function oneStatement(
  channel: string | AnyChannel,
  payload: unknown,
  options: NotifyOptions,
  carried?: Carried,
): Statement | Promise<Statement> {
  const example = `{ key: ${typeof options === "string" ? show(options) : '"order-42"'} }`;
  knownOptions("notify", options, optionNames, example);
  const one = encoded(channel, payload, options, carried);
  return one instanceof Promise
    ? one.then((one) => statementOf(one, options))
    : statementOf(one, options);
}

function statementOf(one: Encoded, options: NotifyOptions): Statement {
  return isForLater(options) ? eachStatement([itemText(one, options)]) : {
    text: "select hark.notify($1::text, $2::text::jsonb, $3::text, $4::text::jsonb) as id",
    values: [one.channel, one.payload, one.key, one.headers],
  };
}

/** The statement for many notifications. It is there at once if no channel has a type. */
export function manyStatement(
  notifications: readonly NewNotification[],
  carried?: Carried,
): Statement | Promise<Statement> {
  if (!Array.isArray(notifications)) {
    bad("notifications", notifications, "Give an array of { channel, payload, key, headers }.");
  }
  const items: string[] = [];
  while (items.length < notifications.length) {
    const item = itemOf(notifications, items.length, carried);
    if (item instanceof Promise) return laterStatement(notifications, items, item, carried);
    items.push(item);
  }
  return itemsStatement(items, notifications);
}

/** The same from the first notification on whose schema takes its time. */
async function laterStatement(
  notifications: readonly NewNotification[],
  items: string[],
  item: Promise<string>,
  carried: Carried | undefined,
): Promise<Statement> {
  items.push(await item);
  while (items.length < notifications.length) {
    items.push(await itemOf(notifications, items.length, carried));
  }
  return itemsStatement(items, notifications);
}

function itemsStatement(
  items: readonly string[],
  notifications: readonly NewNotification[],
): Statement {
  return notifications.some(isForLater) ? eachStatement(items) : {
    text: "select hark.notify_many($1::text::json) as id",
    values: [`[${items.join(",")}]`],
  };
}

/** Checks one of many notifications and writes it as JSON text. Errors say which one it is. */
function itemOf(
  notifications: readonly NewNotification[],
  i: number,
  carried: Carried | undefined,
): string | Promise<string> {
  const at = (error: unknown) =>
    error instanceof HarkError ? errorAt(`notifications[${i}]`, error) : error;
  const n = notifications[i]!;
  try {
    knownOptions(
      "a notification",
      n,
      ["channel", "payload", ...optionNames],
      '{ channel: "orders", payload: { id: 42 } }',
    );
    const one = encoded(n.channel, "payload" in n ? n.payload : {}, n, carried);
    if (!(one instanceof Promise)) return itemText(one, n);
    return one.then((one) => itemText(one, n)).catch((error) => {
      throw at(error);
    });
  } catch (error) {
    throw at(error);
  }
}

/** Delayed notifications and those with a dedupe key have results of their own. */
function eachStatement(items: readonly string[]): Statement {
  return {
    text: "select id, is_delayed, is_duplicate from hark.notify_each($1::text::json)",
    values: [`[${items.join(",")}]`],
  };
}

/** Checks a notification. Its headers also carry a trace, if one is given. */
function encoded(
  channel: string | AnyChannel,
  payload: unknown,
  options: NotifyOptions,
  carried: Carried | undefined,
): Encoded | Promise<Encoded> {
  const typed = definitionOf(channel);
  if (typed !== undefined) {
    return encode(typed, payload, options).then((one) => ({
      ...one,
      headers: withCarried(one.headers, carried),
    }));
  }
  return {
    channel: channelName(channel),
    payload: payloadText(payload),
    key: keyText(options.key),
    headers: withCarried(headersText(options.headers), carried),
  };
}

/** One notification as JSON text, for hark.notify_many and hark.notify_each. */
function itemText({ channel, payload, key, headers }: Encoded, options: NotifyOptions): string {
  return `{"channel":${JSON.stringify(channel)},"payload":${payload}` +
    (key === null ? "" : `,"key":${JSON.stringify(key)}`) +
    (headers === null ? "" : `,"headers":${headers}`) +
    `${isForLater(options) ? laterText(options) : ""}}`;
}
