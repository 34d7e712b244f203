/**
 * `hark tail`: shows what is published.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, multiple, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { argument, command, option } from "@optique/core/primitives";
import { channelName } from "../check.ts";
import type { Notification } from "../consume/notification.ts";
import type { StartFrom } from "../consume/start.ts";
import { HarkError } from "../errors.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, kind, number, words } from "./options.ts";
import { Lines } from "./output.ts";

const units: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `beginning`, `now`, an id or a time. */
const start = kind<StartFrom>("START", "now", (input) => {
  if (input === "beginning" || input === "now") return input;
  if (/^\d+$/.test(input)) {
    const id = Number(input);
    if (Number.isSafeInteger(id) && id > 0) return { id };
  } else if (/^\d{4}-\d\d-\d\d/.test(input)) {
    const time = new Date(input);
    if (!Number.isNaN(time.getTime())) return { time };
  }
  throw new Error(
    `--from is ${JSON.stringify(input)}. ` +
      "Give beginning, now, an id such as 42, or a time such as 2026-11-21T10:00:00Z.",
  );
});

/** A duration, in ms. */
const duration = kind("DURATION", 0, (input) => {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(input) ?? [];
  const value = Number(amount) * (units[unit ?? ""] ?? NaN);
  if (Number.isFinite(value) && value <= Date.now()) return value;
  throw new Error(`--since is ${JSON.stringify(input)}. Give 30s, 10m, 2h or 7d, for example.`);
});

const options = object({
  channels: multiple(argument(words("CHANNEL"), {
    description: plainText("What to show. Default: every channel."),
  })),
  from: optional(option("--from", start, {
    description: plainText("beginning, now (default), an id, or a time (ISO 8601)."),
  })),
  since: optional(option("--since", duration, {
    description: plainText("From so long ago: 30s, 10m, 2h, 7d."),
  })),
  limit: optional(option("--limit", number("N", { least: 1 }), {
    description: plainText("End after so many."),
  })),
  ...database,
  json,
});

type Options = InferValue<typeof options>;

/** `hark tail`. */
export const tail: Parser<"sync", Action, unknown> = command(
  "tail",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Show what is published, live."),
    description: plainText(
      "Shows notifications as they are committed, until Ctrl-C, without registering a consumer. With " +
        "--json each is a line of JSON. A time means the clock at the publishing call.",
    ),
    footer: examplesFooter(
      ["hark tail", "all channels, from now"],
      ["hark tail orders mail --since 10m", "two channels, beginning 10 minutes ago"],
      ["hark tail --from beginning --json --limit 100", "the first hundred, for a program"],
    ),
  },
);

async function run(o: Options): Promise<number> {
  if (o.from !== undefined && o.since !== undefined) {
    throw new HarkError("BAD_OPTION", "--from and --since contradict each other", {
      remedy: "Give one of them.",
    });
  }
  o.channels.forEach(channelName);
  const { openDatabase } = await import("./database.ts");
  const { subscribe } = await import("../consume/subscribe.ts");
  const { notificationLine } = await import("./listen/sample.ts");
  const { stopping } = await import("./signals.ts");
  using stop = stopping();
  await using db = await openDatabase(o, "tail");
  const from = o.since === undefined ? o.from ?? "now" : { time: new Date(Date.now() - o.since) };
  const earliest = typeof from === "object" && "time" in from ? from.time : undefined;
  const unread = new AbortController();
  const lines = new Lines((error) => unread.abort(error));
  const signal = AbortSignal.any([stop.signal, unread.signal]);
  const channels = o.channels.length === 0 ? null : o.channels;
  let shown = 0;
  for await (const n of subscribe(db, channels, { from, signal })) {
    // A start at a time begins at the waymark before it, which may be much earlier.
    if (earliest !== undefined && n.isReplay && n.createdAt < earliest) continue;
    await lines.add(o.json ? jsonLine(n) : notificationLine(n));
    if (++shown === o.limit) break;
  }
  unread.signal.throwIfAborted();
  await lines.flush();
  return 0;
}

/** As JSON, the payload as the server sent it: numbers keep their digits. */
function jsonLine(n: Notification): string {
  const { id, channel, key, headers, createdAt, isReplay } = n;
  const rest = JSON.stringify({ id, channel, key, headers, createdAt, isReplay });
  return `${rest.slice(0, -1)},"payload":${n.payloadText}}`;
}
