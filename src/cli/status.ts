/**
 * `hark status`: how far everybody is.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, flag, option } from "@optique/core/primitives";
import { or } from "@optique/core/constructs";
import type { ConsumerStatus, DelayedStatus, Status } from "../operate/status.ts";
import { ago, holdingText, leaseEnd, shortened, until } from "./consumer.ts";
import { driftLines } from "./drift.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, number } from "./options.ts";
import {
  bytesText,
  countText,
  numberText,
  paint,
  print,
  printJson,
  secondsText,
  table,
  visible,
  visibleLines,
} from "./output.ts";
import { surroundings } from "./surroundings.ts";

const seconds = number("SECONDS", { least: 0.1, most: 86_400, whole: false });

const options = object({
  watch: optional(or(
    option("--watch", seconds, {
      description: plainText("Again every so many seconds, until Ctrl-C."),
    }),
    map(flag("--watch", { description: plainText("Again every 2 seconds.") }), () => 2),
  )),
  warnDays: optional(
    option("--warn-days", number("DAYS", { least: 0, most: 100_000, whole: false }), {
      description: plainText("Warn of consumers that hold back what is older. Default: 7."),
    }),
  ),
  ...database,
  json,
});

/** `hark status`. */
export const status: Parser<"sync", Action, unknown> = command(
  "status",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Say how far every consumer is."),
    description: plainText(
      "For each consumer: its channels, how many notifications it has not read, how old the oldest " +
        "of these is, what waits to be tried again, dead letters, who serves it, what it has handled, " +
        "and the notification it fails on. Then the size of the log, who holds back cleanup, and which " +
        "watched tables are not watched any more as they should be.",
    ),
    footer: examplesFooter(
      ["hark status", "once"],
      ["hark status --watch 5", "every 5 seconds"],
      ["hark status --json | jq '.consumers[].unread'", "for a program"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { status } = await import("../operate/status.ts");
  const { stopping } = await import("./signals.ts");
  using stop = stopping();
  await using db = await openDatabase(o, "status");
  for (;;) {
    const now = await status(db, o.warnDays === undefined ? {} : { warnDays: o.warnDays });
    if (o.watch !== undefined && !o.json && surroundings().stdout.isTerminal()) {
      await print("\x1b[2J\x1b[H");
    }
    if (o.json) await printJson(now);
    else await print(text(now));
    if (o.watch === undefined) return 0;
    await pause(o.watch * 1000, stop.signal);
    if (stop.signal.aborted) return 0;
    if (!o.json) await print("");
  }
}

function text({ consumers, delayed, log, schemaVersion, warnings, watches }: Status): string {
  const count = countText(log.rows, "notification");
  const size = `log: ${log.exact ? "" : "about "}${count}, ${
    bytesText(log.bytes)
  }; schema version ${schemaVersion}`;
  const later = delayedLines(delayed);
  const drift = driftLines(watches);
  if (consumers.length === 0) {
    return ["no consumer is registered", size, ...later, ...drift].join("\n");
  }
  const failing = consumers.filter((one) => one.failing !== null).map(failure);
  return [
    table(
      [
        "consumer",
        "channels",
        "unread",
        "lag",
        "waiting",
        "dead",
        "served",
        "handled",
        "acknowledged",
      ],
      consumers.map((one) => [
        one.consumer,
        shortened(one.channels.join(", ")),
        numberText(one.unread) + (one.unreadCapped ? "+" : ""),
        one.unread === 0 ? "-" : secondsText(one.lagSeconds),
        numberText(one.waiting),
        numberText(one.dead),
        served(one),
        numberText(one.handled),
        ago(one.acknowledgedAt),
      ]),
    ),
    ...failing,
    size,
    ...later,
    ...(warnings.length === 0
      ? []
      : [paint("yellow", `holding back cleanup: ${warnings.map(holdingText).join(", ")}`)]),
    ...drift,
  ].join("\n");
}

/** How long something may be due before it looks as if nobody ran to deliver it, in ms. */
const overdue = 30_000;

function delayedLines({ count, capped, nextAt }: DelayedStatus): string[] {
  if (nextAt === null) return [];
  const what = `to be delivered later: ${capped ? "at least " : ""}${
    countText(count, "notification")
  }`;
  return Date.now() - nextAt.getTime() < overdue ? [`${what}, the first ${until(nextAt)}`] : [
    paint(
      "yellow",
      `${what}, the first was due ${
        ago(nextAt)
      }: it seems that no worker or subscription runs to deliver it`,
    ),
  ];
}

function served(one: ConsumerStatus): string {
  const { serving, owner, leaseUntil, workers, partitions, pausedAt, nextPartitions } = one;
  const paused = pausedAt === null ? "" : "paused, ";
  const pending = nextPartitions === null ? "" : `, to be ${nextPartitions}`;
  const all = one.served === partitions ? "" : `, ${one.served} of ${partitions} partitions`;
  if (serving && workers === 1) return `${paused}by ${owner?.slice(0, 8)}${all}${pending}`;
  if (serving) return `${paused}by ${workers} workers${all}${pending}`;
  return paused + (leaseUntil === null || owner === null ? "no" : `no, ${leaseEnd(leaseUntil)}`) +
    pending;
}

function failure({ consumer, failing }: ConsumerStatus): string {
  const { id, attempts, error, failedAt } = failing!;
  return paint(
    "red",
    `"${visible(consumer)}" fails on notification ${id}, ${countText(attempts, "attempt")}${
      failedAt === null ? "" : `, last ${ago(failedAt)}`
    }: ${visibleLines(error ?? "no message")}`,
  );
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", end);
      resolve();
    }, ms);
    signal.addEventListener("abort", end, { once: true });
  });
}
