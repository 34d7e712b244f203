/**
 * Which messages of an install a stream has behind a place.
 *
 * @module
 */

import { AckPolicy, DeliverPolicy, jetstream, ReplayPolicy } from "@nats-io/jetstream";
import { messageOf } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { type Look, Lost } from "../sink.ts";
import type { Line } from "./line.ts";
import { streamInfo } from "./stream.ts";

/** How to look through a stream. */
export interface ReadBack {
  /** The JetStream domain. */
  readonly domain?: string | undefined;
  /** How many messages are asked for at once. 5,000 unless given. */
  readonly page?: number;
  /** How long no message may come, in milliseconds; at least 1,000. 10,000 unless given. */
  readonly patience?: number;
}

/**
 * Reads the headers of a stream's messages behind a place, up to its end now.
 *
 * @throws {Lost} If the stream does not answer.
 * @throws {HarkError} `NO_PERMISSION`, `DESTINATION`.
 */
export async function idsBehind(
  line: Line,
  stream: string,
  place: number,
  options: ReadBack = {},
): Promise<Look> {
  const ids = new Set<string>();
  const { state: { last_seq: end, first_seq: first } } = await streamInfo(
    line.manager,
    stream,
    line.number,
  );
  line.end = Math.max(line.end, end);
  try {
    for (let at = Math.max(place, first - 1); at < end;) {
      const certain = await readPart(line, stream, at, end, options, ids);
      // A part must not be taken for all: what is missing would be published twice.
      if (certain === at) throw new Error("messages that it has sent did not arrive");
      at = certain;
    }
    return { ids, end };
  } catch (cause) {
    if (cause instanceof HarkError || cause instanceof Lost) throw cause;
    const reason = messageOf(cause);
    if (/permission/i.test(reason)) {
      throw new HarkError(
        "NO_PERMISSION",
        `the NATS user may not read back what stream "${stream}" has: ${reason}`,
        { cause, remedy: `Allow it to publish on $JS.API.CONSUMER.*.${stream}.>.` },
      );
    }
    throw new Lost(`could not read what stream "${stream}" has: ${reason}`, line.number, { cause });
  }
}

/**
 * Reads with a consumer of its own. Returns up to which place certainly all was read: less than `end` if
 * the server has delivered messages that did not arrive.
 */
async function readPart(
  line: Line,
  stream: string,
  place: number,
  end: number,
  { domain, page = 5_000, patience = 10_000 }: ReadBack,
  ids: Set<string>,
): Promise<number> {
  const { name } = await line.manager.consumers.add(stream, {
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: place + 1,
    ack_policy: AckPolicy.None,
    replay_policy: ReplayPolicy.Instant,
    headers_only: true,
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: 30_000 * 1e6,
  });
  const consumer = await jetstream(line.connection, domain === undefined ? {} : { domain })
    .consumers.get(stream, name);
  try {
    let at = place;
    for (let read = 0;;) {
      const before = read;
      const messages = await consumer.fetch({ max_messages: page, expires: patience });
      for await (const message of messages) {
        // The server counts what it delivers, and delivers nothing again.
        if (message.info.deliverySequence !== read + 1) return at;
        read++;
        const id = message.headers?.get("Nats-Msg-Id") ?? "";
        if (id.startsWith("hark:")) ids.add(id);
        at = message.seq;
        // At the end nothing more may come, and a page would wait for it.
        if (at >= end || message.info.pending === 0) return end;
      }
      const { num_pending, delivered } = await consumer.info();
      if (delivered.consumer_seq !== read) return at;
      if (num_pending === 0) return end;
      if (read === before) throw new Error(`nothing came in ${patience / 1000} s`);
    }
  } finally {
    // Without an answer it is removed all the same, after inactive_threshold.
    await consumer.delete().catch(() => {});
  }
}
