/**
 * Reading without registering a consumer: the position exists only in the caller's process.
 *
 * @module
 */

import { typedAmong } from "../channels/consume.ts";
import { decode } from "../channels/decode.ts";
import type { AnyChannel, ChannelOutput, Definition } from "../channels/kind.ts";
import { getLogger } from "../log/logger.ts";
import { abortSignal, channelNames } from "../check.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { checkedValues } from "../option_rules.ts";
import { namesOf } from "./check_options.ts";
import { Notification, setProblem } from "./notification.ts";
import { subscribeRules } from "./option_table.ts";
import type { ChannelGiven } from "./options.ts";
import { pages } from "./pages.ts";
import { startValues } from "./start.ts";
import type { SubscribeOptions, SubscriptionGap } from "./subscribe_options.ts";

const logger = getLogger(["hark", "subscribe"]);

/**
 * Reads channels without registering a consumer. Use it for a live view, a tail, or a stream to a
 * browser. While the iteration lives, it loses nothing, even when it reconnects. If the server
 * crashes, the window being read is repeated. For work that must survive the process, use a
 * {@linkcode Consumer}.
 *
 * The iteration reads as fast as the loop body takes notifications. Memory holds two pages at most.
 *
 * @param channels One or several names or typed channels. Null reads every channel. A payload
 * that does not fit a typed channel is yielded too: `problem` says why, and `payload` throws.
 * @throws {HarkError} As {@linkcode Consumer.run}.
 * @example
 * ```ts
 * import { connect, subscribe } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for await (const notification of subscribe(db, "orders", { from: "beginning" })) {
 *   console.log(notification.id, notification.payload);
 * }
 * ```
 */
export function subscribe<Typed extends AnyChannel>(
  db: Queryable,
  channels: Typed | readonly Typed[],
  options?: SubscribeOptions,
): AsyncGenerator<Notification<ChannelOutput<Typed>>, void, undefined>;
/** With the names of channels. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export function subscribe<Payload = any>(
  db: Queryable,
  channels: ChannelGiven | readonly ChannelGiven[] | null,
  options?: SubscribeOptions,
): AsyncGenerator<Notification<Payload>, void, undefined>;
export async function* subscribe(
  db: Queryable,
  channels: ChannelGiven | readonly ChannelGiven[] | null,
  options: SubscribeOptions = {},
): AsyncGenerator<Notification, void, undefined> {
  const { follow, pollInterval, pageSize: rows, pageBytes: bytes } = checkedValues(
    "subscribe",
    subscribeRules,
    options,
  );
  requireQueryable(db);
  const names = channels === null ? null : channelNames(namesOf(channels));
  const typed = typedAmong(channels);
  const start = startValues(options.from ?? "now");
  const { onReady } = options;
  const onGap = options.onGap ?? warnOfGap;
  const signal = abortSignal("signal", options.signal);
  const reading = pages(db, names, {
    start,
    follow,
    pollInterval,
    rows,
    bytes,
    signal,
    onGap,
    onStart: (resumed) => {
      if (resumed !== undefined) options.onResume?.(resumed);
      onReady?.();
    },
  });
  for await (const page of reading) {
    for (const row of page.rows) {
      const notification = new Notification(row);
      const definition = typed.get(row.channel);
      if (definition !== undefined) await decoded(definition, notification);
      yield notification;
      if (page.over.aborted) return;
    }
  }
}

function warnOfGap({ through }: SubscriptionGap): void {
  logger.warn(
    "Notifications up to {through} were cleaned before this subscription read them, or may have been",
    { through },
  );
}

/** Decodes the payload. If that fails, the notification says why. */
async function decoded(definition: Definition, notification: Notification): Promise<void> {
  if (notification.problem !== undefined) return;
  try {
    await decode(definition, notification);
  } catch (error) {
    setProblem(notification, messageOf(error));
  }
}
