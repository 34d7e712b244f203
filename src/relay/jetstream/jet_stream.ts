/**
 * `jetStream()`: a stream as the target of a relay.
 *
 * @module
 */

import { bad, knownOptions } from "../../check.ts";
import { formats, type MessageFormat } from "../format.ts";
import type { OpenSink, Sink, SinkSetting } from "../sink.ts";
import { isSubject, type SubjectRules, subjectsOf } from "../subject.ts";
import { checkNats, natsOptionNames, type NatsOptions } from "./nats_options.ts";
import type { JetStreamSetting } from "./sink.ts";

/** Options of {@linkcode jetStream}. */
export interface JetStreamOptions extends NatsOptions {
  /** The name of the stream. It must exist. */
  readonly stream: string;
  /**
   * Which subject a notification is published on: a template, a function, or an object with one for
   * each channel. A template holds `{channel}`, `{key}`, `{id}` or `{header.NAME}`. Characters that a
   * subject cannot hold are written as `%` and two hexadecimal digits.
   *
   * @default {"{channel}"}
   */
  readonly subject?: SubjectRules;
  /**
   * What becomes of a payload that is larger than the server or the stream takes. With `"dead"`, the
   * notification becomes a dead letter. With `"claim"`, a message says where the payload is: the
   * install and the id. Your reader fetches it from there. An inbox does not: to it, such a message is a
   * dead letter.
   *
   * @default {"dead"}
   */
  readonly oversized?: "dead" | "claim";
  /**
   * What a message has. With `"hark"`, the payload is the body, and headers that begin with `Hark-` have
   * the facts. With `"cloudevents"`, it is an event by CloudEvents 1.0 in the binary mode: attributes are
   * headers that begin with `ce-`. With `"cloudevents-structured"`, the body is all of the event.
   *
   * @default {"hark"}
   */
  readonly format?: MessageFormat;
}

/**
 * Returns a target for {@linkcode relay}: a stream of NATS JetStream.
 *
 * @throws {HarkError} `BAD_OPTION`. No message shows a password.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { jetStream, relay } from "@hark/postgres/relay";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await relay(db, {
 *   id: "shop-out",
 *   channels: ["orders", "refunds"],
 *   to: jetStream({
 *     servers: "nats://127.0.0.1:4222",
 *     stream: "SHOP",
 *     subject: { orders: "shop.orders.{key}", "*": "shop.{channel}" },
 *   }),
 * }).run();
 * ```
 */
export function jetStream(options: JetStreamOptions): Sink {
  knownOptions(
    "jetStream",
    options,
    [...natsOptionNames, "stream", "subject", "oversized", "format"],
    '{ servers: "nats://127.0.0.1:4222", stream: "ORDERS" }',
  );
  checkNats(options);
  const { stream, subject = "{channel}", oversized = "dead", format = "hark" } = options;
  if (typeof stream !== "string" || !isSubject(stream) || stream.includes(".")) {
    bad("stream", stream, "Give the name of a stream, such as ORDERS.");
  }
  if (oversized !== "dead" && oversized !== "claim") {
    bad("oversized", oversized, 'Give "dead" or "claim".');
  }
  if (!formats.includes(format)) {
    bad("format", format, `Give one of ${formats.map((one) => JSON.stringify(one)).join(", ")}.`);
  }
  const setting: JetStreamSetting = {
    server: options,
    stream,
    subject: subjectsOf(subject),
    rules: subject,
    oversized,
    format,
  };
  return {
    kind: "jetstream",
    async open(relay: SinkSetting): Promise<OpenSink> {
      // Loaded here: a program that only describes a relay needs no client of NATS.
      const { OpenJetStream } = await import("./sink.ts");
      return await OpenJetStream.open(setting, relay);
    },
  };
}
