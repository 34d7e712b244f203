/**
 * Events in messages: the binary and the structured content mode of CloudEvents 1.0, as the bindings
 * for HTTP and NATS have them.
 *
 * @see {@link https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md}
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { exactData, keepDigits, parseBoth } from "./digits.ts";
import { checkEvent, type CloudEvent } from "./event.ts";

/** The media type of an event in the structured mode. */
export const structuredType = "application/cloudevents+json";

/** Headers and a body. */
export interface CloudEventMessage {
  /** The headers. Names are in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** The body. */
  readonly body: string | Uint8Array<ArrayBuffer>;
}

const encoder = new TextEncoder();

/**
 * An event in the binary mode: attributes as headers `ce-…`, the data as the body.
 *
 * @throws {HarkError} `BAD_PAYLOAD`.
 * @example
 * ```ts
 * import { toBinary } from "@hark/postgres/cloudevents";
 *
 * const event = { specversion: "1.0", id: "1", source: "/shop", type: "orders", data: 42 } as const;
 * const { headers, body } = toBinary(event);
 * await fetch("https://example.com/events", { method: "POST", headers, body });
 * ```
 */
export function toBinary(event: CloudEvent): CloudEventMessage {
  const { data: _, data_base64, datacontenttype, ...attributes } = checkEvent(event);
  const data = exactData(event);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(attributes)) {
    headers[`ce-${name}`] = encoded(String(value));
  }
  if (datacontenttype !== undefined || data !== undefined) {
    headers["content-type"] = datacontenttype ?? "application/json";
  }
  if (data_base64 !== undefined) {
    const body = Uint8Array.from(atob(data_base64), (character) => character.charCodeAt(0));
    return { headers, body };
  }
  if (data === undefined) return { headers, body: "" };
  const isText = typeof data === "string" && !isJson(datacontenttype);
  return { headers, body: isText ? data : JSON.stringify(data) };
}

/**
 * An event in the structured mode: all of it as JSON in the body.
 *
 * @throws {HarkError} `BAD_PAYLOAD`.
 * @example
 * ```ts
 * import { toStructured } from "@hark/postgres/cloudevents";
 *
 * const event = { specversion: "1.0", id: "1", source: "/shop", type: "orders", data: 42 } as const;
 * console.log(toStructured(event).body);
 * ```
 */
export function toStructured(event: CloudEvent): CloudEventMessage {
  return {
    headers: { "content-type": structuredType },
    body: JSON.stringify({ ...checkEvent(event), data: exactData(event) }),
  };
}

/**
 * Reads the event of a message, in whichever mode it is. Numbers of `data` beyond 2^53 lose digits.
 * `fromCloudEvent` publishes all of them, if `data` is as it was read.
 *
 * @param headers A request's headers, or an object.
 * @throws {HarkError} `BAD_PAYLOAD`.
 * @example
 * ```ts
 * import { connect, notifyMany } from "@hark/postgres";
 * import { fromCloudEvent, fromMessage } from "@hark/postgres/cloudevents";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * Deno.serve(async (request) => {
 *   const event = fromMessage(request.headers, await request.bytes());
 *   await notifyMany(db, [fromCloudEvent(event, { dedupe: "1d" })]);
 *   return new Response(null, { status: 204 });
 * });
 * ```
 */
export function fromMessage(
  headers: Headers | Readonly<Record<string, string>>,
  body: string | Uint8Array,
): CloudEvent {
  const all = headers instanceof Headers ? [...headers] : Object.entries(headers);
  const given = new Map(all.map(([name, value]) => [name.toLowerCase(), value]));
  const type = given.get("content-type");
  if (/^application\/cloudevents(?!-batch)/i.test(type ?? "")) {
    const { value, exact } = parsed(textOf(body), "the body");
    return keepDigits(checkEvent(value), (exact as CloudEvent | undefined)?.data);
  }
  if (!given.has("ce-specversion")) {
    throw new HarkError("BAD_PAYLOAD", "this message holds no event by CloudEvents 1.0", {
      remedy: `It has neither the header ce-specversion nor the content type ${structuredType}.`,
    });
  }
  const attributes: Record<string, unknown> = {};
  for (const [name, value] of given) {
    if (name.startsWith("ce-")) attributes[name.slice("ce-".length)] = decoded(value);
  }
  if (type !== undefined) attributes.datacontenttype = type;
  const bytes = typeof body === "string" ? encoder.encode(body) : body;
  if (bytes.length === 0) return checkEvent(attributes);
  if (isJson(type)) {
    const { value, exact } = parsed(textOf(body), "the data");
    return keepDigits(checkEvent({ ...attributes, data: value }), exact);
  }
  if (/^text\//i.test(type!)) return checkEvent({ ...attributes, data: textOf(body) });
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return checkEvent({ ...attributes, data_base64: btoa(binary) });
}

function isJson(type: string | undefined): boolean {
  return type === undefined || /^[^;]*[/+]json\s*(;|$)/i.test(type);
}

function textOf(body: string | Uint8Array): string {
  if (typeof body === "string") return body;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch (cause) {
    throw new HarkError("BAD_PAYLOAD", "the body of the event is no text in UTF-8", {
      cause,
      remedy: "Send UTF-8, or another content type.",
    });
  }
}

function parsed(text: string, what: string): ReturnType<typeof parseBoth> {
  try {
    return parseBoth(text);
  } catch (cause) {
    throw new HarkError("BAD_PAYLOAD", `${what} of the event is no JSON`, {
      cause,
      remedy: "Send JSON, or another content type.",
    });
  }
}

/** A value in a header: what is not printable ASCII, a space, a quote and a percent sign in hexadecimal. */
function encoded(text: string): string {
  return text.replaceAll(/[^\x21-\x7e]|["%]/gu, (character) =>
    [...encoder.encode(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""));
}

/** A value of a header as it was. A quoted one loses its quotes. */
function decoded(value: string): string {
  const plain = /^".*"$/.test(value) ? value.slice(1, -1).replaceAll(/\\(.)/g, "$1") : value;
  try {
    return decodeURIComponent(plain);
  } catch {
    return plain; // a percent sign that encodes nothing
  }
}
