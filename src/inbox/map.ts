/**
 * What a message becomes: texts of JSON for hark.notify_each.
 *
 * @module
 */

import { bad } from "../check.ts";
import { fromCloudEvent } from "../cloudevents/event.ts";
import { fromMessage } from "../cloudevents/modes.ts";
import { dedupeKeyOf } from "../dedupe_key.ts";
import type { NewNotification } from "../publish/notify.ts";
import { headersText, keyText, payloadText } from "../publish/payload.ts";
import { unescaped } from "../relay/message.ts";
import { DeadLetter } from "../consume/retry.ts";
import type { InboxMessage, Mapped } from "./options.ts";

/** A notification as JSON, for the server. */
export type Item = string;

/** Names of headers that say how a message came, not what it says. */
const inner = /^(nats|hark)-/i;

/** The notification of a message, by default. The payload keeps the text that it has. */
export function itemOf(message: InboxMessage, dedupe: number | undefined): Item {
  const { headers, subject } = message;
  if (headers["Hark-Claim"] !== undefined) {
    throw new DeadLetter(
      `the payload is only in the database of install ${
        headers["Hark-Install"]
      }: ${message.text()}`,
    );
  }
  const isRelayed = headers["Hark-Channel"] !== undefined;
  // A header of a notification may look like one of an event.
  if (!isRelayed && isEvent(headers)) return eventItem(message, dedupe);
  const channel = isRelayed ? unescaped(headers["Hark-Channel"]!) : subject;
  const key = isRelayed
    ? headers["Hark-Key"] === undefined ? null : unescaped(headers["Hark-Key"])
    : subject;
  message.json(); // a text that is no JSON is refused here, with its reason
  const own = Object.entries(headers).filter(([name]) => !inner.test(name));
  const facts = isRelayed
    ? checkedJson(headers["Hark-Headers"] ?? "null")
    : JSON.stringify({ ...Object.fromEntries(own), "nats-subject": subject });
  return joined(channel, message.text(), key, facts, message, dedupe);
}

/** Whether a message holds an event by CloudEvents 1.0. */
function isEvent(headers: InboxMessage["headers"]): boolean {
  return Object.entries(headers).some(([name, value]) => {
    const lower = name.toLowerCase();
    return lower === "ce-specversion" ||
      lower === "content-type" && /^application\/cloudevents(?!-batch)/i.test(value);
  });
}

/** The notification of an event: type, subject and data become channel, key and payload. */
function eventItem(message: InboxMessage, dedupe: number | undefined): Item {
  const own = Object.entries(message.headers).filter(([name]) => !inner.test(name));
  const { channel, payload = null, key, headers } = fromCloudEvent(
    fromMessage(Object.fromEntries(own), message.body),
  );
  return joined(
    channel as string,
    payloadText(payload, "data"),
    key === undefined || key === null ? null : keyText(key),
    headers === undefined ? "null" : headersText(headers) ?? "null",
    message,
    dedupe,
  );
}

/** A text as it is, if it is JSON. Another one could hold more than one value. */
function checkedJson(text: string): string {
  JSON.parse(text);
  return text;
}

/** The notifications of a message, of what `map` has returned. */
export function itemsOf(mapped: Mapped, message: InboxMessage, dedupe: number | undefined): Item[] {
  if (mapped === undefined) return [];
  const all: readonly NewNotification[] = Array.isArray(mapped) ? mapped : [mapped];
  return all.map((one, i) => {
    if (typeof one?.channel !== "string") {
      bad(
        "what map returned",
        one,
        "Return { channel, payload, key, headers }, or a list of these.",
      );
    }
    const { channel, payload = {}, key, headers } = one;
    return joined(
      channel,
      payloadText(payload, "payload"),
      key === undefined || key === null ? null : keyText(key),
      headers === undefined || headers === null ? "null" : headersText(headers) ?? "null",
      message,
      dedupe,
      i,
    );
  });
}

function joined(
  channel: string,
  payload: string,
  key: string | null,
  headers: string,
  message: InboxMessage,
  dedupe: number | undefined,
  place = 0,
): Item {
  const id = message.headers["Nats-Msg-Id"];
  const once = dedupe === undefined || id === undefined
    ? ""
    // The space keeps the second of message 1 apart from message 11.
    : `,"dedupe_key":${JSON.stringify(dedupeKeyOf(`${id} ${place}`))},"within_ms":${dedupe}`;
  return `{"channel":${JSON.stringify(channel)},"payload":${payload},"key":${
    JSON.stringify(key)
  },` +
    `"headers":${headers}${once}}`;
}
