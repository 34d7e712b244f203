/**
 * A notification as a message: its headers and its body.
 *
 * @module
 */

import type { Notification } from "../consume/notification.ts";
import type { RelayMessage } from "./sink.ts";

/** The id of the message for a notification. */
export function messageId(install: string, id: number | ""): string {
  return `hark:${install}:${id}`;
}

/** Names of headers that are Hark's and NATS's own. */
const own = /^(nats|hark)-/i;

/**
 * The headers of a message. A notification's own headers are there twice: each text as a header of its
 * own, for readers of the stream, and all of them as JSON in `Hark-Headers`, for an inbox.
 */
export function headersOf({ id, install, notification: n }: RelayMessage): [string, string][] {
  const headers: [string, string][] = [
    ["Nats-Msg-Id", id],
    ["Hark-Install", install],
    ["Hark-Id", String(n.id)],
    ["Hark-Channel", escaped(n.channel)],
    ["Hark-Time", n.createdAt.toISOString()],
  ];
  if (n.key !== null) headers.push(["Hark-Key", escaped(n.key)]);
  const entries = Object.entries(n.headers);
  if (entries.length > 0) headers.push(["Hark-Headers", inAscii(n.headersText)]);
  for (const [name, value] of entries) {
    if (typeof value !== "string" || own.test(name) || !/^[\w!#$%&'*+.^`|~-]+$/.test(name)) {
      continue;
    }
    // No break of a line: what follows would be another header.
    if (!/\p{Cc}/u.test(value) && value === value.trim()) headers.push([name, value]);
  }
  return headers;
}

/** JSON in ASCII. It is on one line, as the server sends it: numbers keep all their digits. */
function inAscii(text: string): string {
  return text.replaceAll(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A text as the value of a header: what no header can hold is written as in a URL. */
export function escaped(text: string): string {
  return text.replaceAll(/[^\x21-\x7e ]|%|^ | $/gu, encodeURIComponent);
}

/** The text that {@linkcode escaped} has written. */
export function unescaped(text: string): string {
  return decodeURIComponent(text);
}

/** The body that stands for a payload that is too large: where to find it. */
export function claimOf({ install, notification: n }: RelayMessage, bytes: number): string {
  return JSON.stringify({
    claim: { install, id: n.id, channel: n.channel, bytes, createdAt: n.createdAt },
  });
}

/** How many bytes headers take in the protocol of NATS. */
export function sizeOf(headers: readonly (readonly [string, string])[]): number {
  const text = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return "NATS/1.0\r\n\r\n".length + new TextEncoder().encode(text).length;
}

/** A number of bytes that headers do not exceed. It costs less than {@linkcode sizeOf}. */
export function atMost(headers: readonly (readonly [string, string])[]): number {
  return headers.reduce((sum, [name, value]) => sum + 3 * (name.length + value.length) + 4, 12);
}

/** What a notification is called in messages of errors. */
export function nameOf(n: Notification): string {
  return `notification ${n.id} of channel "${n.channel}"`;
}
