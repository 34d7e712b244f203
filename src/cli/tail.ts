/**
 * `hark tail`: shows notifications as they are published.
 *
 * @module
 */

import { channelName } from "../check.ts";
import type { Notification } from "../consume/notification.ts";
import type { SubscriptionGap, SubscriptionResume } from "../consume/subscribe_options.ts";
import { ageBounds } from "../duration.ts";
import { databaseCommand } from "./args/command.ts";
import {
  contradiction,
  maybe,
  number,
  positional,
  several,
  toggle,
  words,
} from "./args/options.ts";
import { jsonText, Lines } from "./print/output.ts";
import { stopping } from "./process/signals.ts";
import { visible } from "./print/style.ts";
import { beginning, maybeDuration } from "./args/values.ts";

/** `hark tail`. */
export const tail = databaseCommand({
  name: "tail",
  replica: "beside",
  brief: "Show notifications as they are published.",
  description:
    "Shows each notification when it is committed, until Ctrl-C, and registers no consumer. With " +
    "--json each is a line of JSON. A time means the clock at the publishing call.",
  examples: [
    ["hark tail", "all channels, from now"],
    ["hark tail orders mail --since 10m", "two channels, from 10 minutes ago"],
    ["hark tail --from beginning --json --limit 100", "the first hundred, for a program"],
    ["hark tail orders --no-follow", "what there is, and end"],
    ["hark tail orders --from-position 1…", "behind the position of a line of --json"],
    ["hark tail --from beginning --replica postgres://…", "all of it, from a standby"],
  ],
  options: {
    channels: several(positional(words("CHANNEL"), "The channels to show. Default: all.")),
    from: maybe(
      "--from",
      beginning("START", ["beginning", "now"], "--from"),
      "beginning, now (default), an id, or a time (ISO 8601, in UTC without an offset, or 2h for two hours ago).",
    ),
    since: maybeDuration("--since", "Start this long ago: 30s, 10m, 2h, 7d.", ageBounds),
    fromPosition: maybe(
      "--from-position",
      words("POSITION"),
      "Go on behind this position, as --json shows it.",
    ),
    noFollow: toggle(
      "--no-follow",
      "End after what had been published when it began. Default for --from: beginning.",
    ),
    limit: maybe("--limit", number("N", { least: 1 }), "End after this many."),
  },
  check(o) {
    if (o.noFollow && o.from === "now") contradiction("--no-follow", "--from now");
    if (o.from !== undefined && o.since !== undefined) contradiction("--from", "--since");
    if (o.fromPosition !== undefined) {
      if (o.from !== undefined) contradiction("--from-position", "--from");
      if (o.since !== undefined) contradiction("--from-position", "--since");
    }
    o.channels?.forEach(channelName);
  },
  async run(db, o, json) {
    const { subscribe } = await import("../consume/subscribe.ts");
    const { notificationLine } = await import("./listen/sample.ts");
    using stop = stopping();
    const begin = o.from ?? (o.noFollow ? "beginning" : "now");
    const from = o.fromPosition !== undefined
      ? { position: o.fromPosition }
      : o.since === undefined
      ? begin
      : { time: new Date(Date.now() - o.since) };
    const earliest = typeof from === "object" && "time" in from ? from.time : undefined;
    const unread = new AbortController();
    const lines = new Lines((error) => unread.abort(error));
    const signal = AbortSignal.any([stop.signal, unread.signal]);
    let shown = 0;
    const reading = { from, signal, follow: !o.noFollow, onGap: sayGap, onResume: sayRepeats };
    for await (const n of subscribe(db, o.channels ?? null, reading)) {
      // A start at a time begins at the mark before it, which may be earlier.
      if (earliest !== undefined && n.isReplay && n.createdAt < earliest) continue;
      await lines.add(json ? jsonLine(n) : notificationLine(n));
      if (++shown === o.limit) break;
    }
    unread.signal.throwIfAborted();
    await lines.flush();
  },
});

function sayGap({ through }: SubscriptionGap): void {
  console.error(
    `Notifications up to ${through} were cleaned before they were read, or may have been.`,
  );
}

function sayRepeats({ repeats }: SubscriptionResume): void {
  if (repeats) console.error("Some notifications may come again: the position's marks are gone.");
}

/** As JSON. The payload is the server's text, so that numbers keep their digits. */
function jsonLine(n: Notification): string {
  const { id, channel, key, createdAt, isReplay, position, problem } = n;
  if (problem !== undefined) {
    return jsonText({ id, channel, key, createdAt, isReplay, position, problem });
  }
  const { headers } = n;
  const rest = jsonText({ id, channel, key, headers, createdAt, isReplay, position });
  return `${rest.slice(0, -1)},"payload":${visible(n.payloadText)}}`;
}
