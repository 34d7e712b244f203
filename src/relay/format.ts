/**
 * The formats of messages: Hark's own, and the two modes of CloudEvents 1.0.
 *
 * @see {@link https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md}
 *
 * @module
 */

import { toCloudEvent } from "../cloudevents/event.ts";
import { structuredType, toBinary } from "../cloudevents/modes.ts";
import { headersOf } from "./message.ts";
import type { RelayMessage } from "./sink.ts";

/** What the messages of a relay have: see {@linkcode JetStreamOptions.format}. */
export type MessageFormat = "hark" | "cloudevents" | "cloudevents-structured";

/** All formats. */
export const formats: readonly MessageFormat[] = ["hark", "cloudevents", "cloudevents-structured"];

/** A message in a format. Numbers of the payload keep all their digits in each. */
export function formattedAs(
  format: MessageFormat,
  message: RelayMessage,
): { readonly headers: readonly (readonly [string, string])[]; readonly body: string } {
  const { id, install, notification } = message;
  if (format === "hark") return { headers: headersOf(message), body: notification.payloadText };
  const own = [["Nats-Msg-Id", id], ["Hark-Install", install], [
    "Hark-Id",
    String(notification.id),
  ]];
  const { data: _, ...event } = toCloudEvent(notification, { source: `urn:uuid:${install}` });
  const { headers } = format === "cloudevents"
    ? toBinary(event)
    : { headers: { "content-type": structuredType } };
  const body = format === "cloudevents"
    ? notification.payloadText
    : `${JSON.stringify(event).slice(0, -1)},"data":${notification.payloadText}}`;
  return { headers: [...own as [string, string][], ...Object.entries(headers)], body };
}
