/**
 * A message of a stream as an inbox gives it to `map`.
 *
 * @module
 */

import type { JsMsg } from "@nats-io/jetstream";
import { messageOf } from "../database/translate.ts";
import type { InboxMessage } from "./options.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });

/** What is known of a message, wherever it was kept. */
export interface Parts {
  readonly subject: string;
  readonly sequence: number;
  readonly time: Date;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Makes a message of its parts. */
export function messageOfParts(parts: Parts): InboxMessage {
  const text = () => {
    try {
      return decoder.decode(parts.body);
    } catch (cause) {
      throw new TypeError("the body is no text in UTF-8", { cause });
    }
  };
  const json = () => {
    const body = text();
    try {
      return JSON.parse(body);
    } catch (cause) {
      throw new SyntaxError(`the body is no JSON: ${messageOf(cause)}`, { cause });
    }
  };
  return { ...parts, text, json };
}

/** A message as the stream has delivered it. */
export function messageIn(message: JsMsg): InboxMessage {
  const headers: Record<string, string> = {};
  for (const [name, values] of message.headers ?? []) headers[name] ??= values[0] ?? "";
  return messageOfParts({
    subject: message.subject,
    sequence: message.seq,
    time: new Date(message.info.timestampNanos / 1e6),
    headers,
    body: message.data,
  });
}
