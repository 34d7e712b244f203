/**
 * A notification as an event by CloudEvents 1.0, and back.
 *
 * @see {@link https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md}
 *
 * @module
 */

import { knownOptions, show } from "../check.ts";
import { versionHeader } from "../channels/kind.ts";
import type { Notification } from "../consume/notification.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { dedupeKeyOf } from "../dedupe_key.ts";
import { HarkError } from "../errors.ts";
import type { NewNotification } from "../publish/notify.ts";
import type { Duration } from "../duration.ts";
import { exactData, keepDigits, parseBoth } from "./digits.ts";

/** An event by CloudEvents 1.0, as its JSON format has it. */
export interface CloudEvent {
  /** The version of the specification. */
  readonly specversion: "1.0";
  /** With `source`, what tells the event from all others. */
  readonly id: string;
  /** Where the event happened: a URI reference. */
  readonly source: string;
  /** What kind of event it is. Of Hark: the channel. */
  readonly type: string;
  /** What the event is about. Of Hark: the key. */
  readonly subject?: string;
  /** When it happened. */
  readonly time?: string;
  /** The media type of `data`. */
  readonly datacontenttype?: string;
  /** A URI of the schema of `data`. Of Hark: the channel and its version. */
  readonly dataschema?: string;
  /** The data. */
  readonly data?: unknown;
  /** The data in base64, if it is not JSON. */
  readonly data_base64?: string;
  /** Extensions, such as `traceparent`. */
  readonly [extension: string]: unknown;
}

/** Options of {@linkcode toCloudEvent}. */
export interface CloudEventOptions {
  /** The source, such as {@linkcode installUri} gives it. */
  readonly source: string | URL;
  /**
   * The type.
   *
   * @default {the channel}
   */
  readonly type?: string;
  /**
   * The URI of the schema.
   *
   * @default {a URI of the channel and its version, if it has one}
   */
  readonly dataschema?: string | URL;
}

/** The attributes that the specification names. */
const named = new Set([
  "specversion",
  "id",
  "source",
  "type",
  "subject",
  "time",
  "datacontenttype",
  "dataschema",
  "data",
  "data_base64",
]);

/** The extension that keeps the headers that no attribute can hold. */
const headersExtension = "harkheaders";

/**
 * The URI of this database's install of Hark, for `source`. It stays the same after a dump and restore.
 *
 * @throws {HarkError} `NO_SCHEMA`; `NO_PERMISSION` without `hark.grant_consume`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { installUri } from "@hark/postgres/cloudevents";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await installUri(db)); // urn:uuid:…
 * ```
 */
export async function installUri(db: Queryable): Promise<string> {
  const { rows: [row] } = await translated(() =>
    db.query("select install::text as id from hark.relay_place('', null, '', 0)")
  );
  return `urn:uuid:${row.id}`;
}

/**
 * Makes an event of a notification: `id` is its number, `type` its channel, `subject` its key, `time`
 * when it was published, and `dataschema` its channel's version. Headers with plain names and values,
 * such as `traceparent`, become extensions. The others are kept as JSON in `harkheaders`. Numbers of
 * `data` beyond 2^53 lose digits, but `toBinary`, `toStructured` and `fromCloudEvent` write all of them
 * if `data` is as it was.
 *
 * @throws {HarkError} `BAD_OPTION`, `BAD_PAYLOAD`.
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { installUri, toCloudEvent } from "@hark/postgres/cloudevents";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const source = await installUri(db);
 * await new Consumer(db, {
 *   id: "events",
 *   channels: "orders",
 *   handle: (n) => console.log(toCloudEvent(n, { source })),
 * }).run();
 * ```
 */
export function toCloudEvent(notification: Notification, options: CloudEventOptions): CloudEvent {
  knownOptions("toCloudEvent", options, ["source", "type", "dataschema"]);
  const { id, channel, key, createdAt, headers } = notification;
  const extensions: Record<string, unknown> = {};
  const rest: Record<string, unknown> = {};
  let version: unknown;
  for (const [name, value] of Object.entries(headers)) {
    if (name === versionHeader) version = value;
    const isPlain = /^[a-z0-9]{1,20}$/.test(name) && !named.has(name) &&
      name !== headersExtension &&
      typeof value === "string" && value !== "" && !/\p{Cc}/u.test(value);
    (isPlain ? extensions : rest)[name] = value;
  }
  if (Object.keys(rest).length > 0) extensions[headersExtension] = JSON.stringify(rest);
  const dataschema = options.dataschema ??
    (version === undefined
      ? undefined
      : `urn:hark:channel:${encodeURIComponent(channel)}:${encodeURIComponent(String(version))}`);
  const { value: data, exact } = parseBoth(notification.payloadText);
  const event = checkEvent({
    specversion: "1.0",
    id: String(id),
    source: String(options.source ?? ""),
    type: options.type ?? channel,
    ...(key === null || key === "" ? {} : { subject: key }),
    time: createdAt.toISOString(),
    datacontenttype: "application/json",
    ...(dataschema === undefined ? {} : { dataschema: String(dataschema) }),
    ...extensions,
    data,
  });
  return keepDigits(event, exact);
}

/** Options of {@linkcode fromCloudEvent}. */
export interface FromCloudEventOptions {
  /**
   * Publish nothing if an event with the same `source` and `id` was published within this time on the
   * channel.
   *
   * @default {none}
   */
  readonly dedupe?: Duration;
}

/**
 * Makes what `notify` and `notifyMany` take of an event: the channel is `type`, the key is `subject`,
 * and the payload is `data`, or the text of `data_base64`. Extensions become headers, and so do `id`,
 * `source`, `time` and `dataschema`, as `ce-id` and so on. Numbers of an event that was read by
 * `fromMessage` keep all their digits: those that JavaScript would change are objects of `JSON.rawJSON`.
 *
 * @throws {HarkError} `BAD_PAYLOAD` if it is no event by CloudEvents 1.0.
 * @example
 * ```ts
 * import { connect, notifyMany } from "@hark/postgres";
 * import { fromCloudEvent } from "@hark/postgres/cloudevents";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const event = { specversion: "1.0", id: "1", source: "/shop", type: "orders", data: { id: 42 } };
 * await notifyMany(db, [fromCloudEvent(event)]);
 * ```
 */
export function fromCloudEvent(
  event: unknown,
  options: FromCloudEventOptions = {},
): NewNotification {
  knownOptions("fromCloudEvent", options, ["dedupe"]);
  const checked = checkEvent(event);
  const { id, source, type, subject, time, dataschema, datacontenttype } = checked;
  const headers: Record<string, unknown> = { "ce-id": id, "ce-source": source };
  if (time !== undefined) headers["ce-time"] = time;
  if (dataschema !== undefined) headers["ce-dataschema"] = dataschema;
  if (datacontenttype !== undefined && datacontenttype !== "application/json") {
    headers["ce-datacontenttype"] = datacontenttype;
  }
  for (const [name, value] of Object.entries(checked)) {
    if (!named.has(name) && name !== headersExtension && value !== null) headers[name] = value;
  }
  Object.assign(headers, keptHeaders(checked[headersExtension]));
  const { dedupe } = options;
  return {
    channel: type,
    payload: checked.data_base64 ?? exactData(event as CloudEvent) ?? null,
    ...(subject === undefined ? {} : { key: subject }),
    headers,
    ...(dedupe === undefined
      ? {}
      : { dedupe: { key: dedupeKeyOf(`${source} ${id}`), within: dedupe } }),
  };
}

function keptHeaders(text: unknown): object {
  if (typeof text !== "string") return {};
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {}; // another program's extension of this name
  }
}

/**
 * Checks an event by CloudEvents 1.0.
 *
 * @throws {HarkError} `BAD_PAYLOAD`.
 */
export function checkEvent(event: unknown): CloudEvent {
  if (typeof event !== "object" || event === null || Array.isArray(event)) {
    return refuse(`it is ${show(event)}`, "Give an object.");
  }
  const given = event as Record<string, unknown>;
  if (given.specversion !== "1.0") {
    refuse(`specversion is ${show(given.specversion)}`, 'Only "1.0" is known.');
  }
  for (const name of ["id", "source", "type"]) {
    if (typeof given[name] !== "string" || given[name] === "") {
      refuse(`${name} is ${show(given[name])}`, "Give a text that is not empty.");
    }
  }
  for (const name of ["subject", "datacontenttype", "dataschema"]) {
    const value = given[name];
    if (value !== undefined && value !== null && (typeof value !== "string" || value === "")) {
      refuse(`${name} is ${show(value)}`, "Leave it out, or give a text that is not empty.");
    }
  }
  const { time } = given;
  const isTime = time === undefined || time === null || typeof time === "string" &&
      /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(time);
  if (!isTime) refuse(`time is ${show(time)}`, "Give a time by RFC 3339.");
  if (given.data !== undefined && given.data_base64 !== undefined) {
    refuse("it has data and data_base64", "Give one of them.");
  }
  const { data_base64: base64 } = given;
  const isBase64 = base64 === undefined || base64 === null || typeof base64 === "string" &&
      base64.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(base64);
  if (!isBase64) refuse(`data_base64 is ${show(base64)}`, "Give bytes in base64, as text.");
  for (const [name, value] of Object.entries(given)) {
    if (named.has(name)) continue;
    if (!/^[a-z0-9]+$/.test(name)) {
      refuse(
        `it has an attribute ${show(name)}`,
        "Names are lower-case letters a to z and digits.",
      );
    }
    if (!["string", "number", "boolean"].includes(typeof value) && value !== null) {
      refuse(`${name} is ${show(value)}`, "Give a text, a number, true or false.");
    }
  }
  // In JSON, null is the same as an attribute that is missing. Of the data it is a value.
  return Object.fromEntries(
    Object.entries(given).filter(([name, value]) =>
      value !== undefined && (value !== null || name === "data")
    ),
  ) as CloudEvent;
}

function refuse(what: string, remedy: string): never {
  throw new HarkError("BAD_PAYLOAD", `this is no event by CloudEvents 1.0: ${what}`, { remedy });
}
