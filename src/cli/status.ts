/**
 * `hark status`: how far every consumer is.
 *
 * @module
 */

import { or } from "@optique/core/constructs";
import { map, optional } from "@optique/core/modifiers";
import { flag } from "@optique/core/primitives";
import { pause } from "../database/bell.ts";
import type { WatchStatus } from "../changes/watches.ts";
import { aDay, ageBounds } from "../duration.ts";
import type { InboxStatus } from "../inbox/status.ts";
import { endpointsText, type RelayStatus } from "../operate/relays.ts";
import type { HoldingConsumer, HoldingReason } from "../operate/holding.ts";
import type { SchedulesStatus } from "../operate/schedules.ts";
import {
  type ConsumerStatus,
  type SleepingWorkers,
  sleepsWell,
} from "../operate/consumer_status.ts";
import type { DelayedStatus, Status } from "../operate/status.ts";
import { databaseCommand, given } from "./command.ts";
import { nextAttempt } from "./next_attempt.ts";
import { maybe, needed, plainText } from "./options.ts";
import { print, printJson } from "./output.ts";
import { nothingIsRemoved, retentionText } from "./retention.ts";
import { stopping } from "./signals.ts";
import { surroundings } from "./surroundings.ts";
import { visible } from "./style.ts";
import { blocks, type Cell, count, facts, plain, table } from "./table.ts";
import {
  ago,
  bytesText,
  countText,
  durationText,
  named,
  numberText,
  shellWord,
  shortened,
  timeText,
  until,
} from "./text.ts";
import { duration } from "./values.ts";

/** `hark status`. */
export const status = databaseCommand({
  name: "status",
  brief: "Show how far every consumer is.",
  description:
    "For each consumer: its channels, how many notifications it has not read, the age of the " +
    "oldest of these (lag), how many wait for a retry, the age of the oldest of these, its dead letters, the worker that serves " +
    "it, what it fails on, and when that is tried next. Then what waits for a worker of a newer program, the consumers that hold back cleanup, the watches that have " +
    "drifted, and the size of the log.",
  examples: [
    ["hark status", "once"],
    ["hark status --watch 5s", "every 5 seconds"],
    ["hark status --json | jq '.consumers[].unread'", "for a program"],
  ],
  options: {
    watch: optional(or(
      needed(
        "--watch",
        duration("--watch", { least: 100, most: aDay }),
        "Repeat after this time, until Ctrl-C.",
      ),
      map(flag("--watch", { description: plainText("Repeat after 2 seconds.") }), () => 2000),
    )),
    warnAfter: maybe(
      "--warn-after",
      duration("--warn-after", ageBounds),
      "Warn of consumers that keep notifications older than this. Default: 7d.",
    ),
  },
  async run(db, o) {
    const { status } = await import("../operate/status.ts");
    using stop = stopping();
    for (;;) {
      const now = await status(db, given({ warnAfter: o.warnAfter }));
      if (o.watch !== undefined && !o.json && surroundings().stdout.isTerminal()) {
        await print("\x1b[2J\x1b[H");
      }
      if (o.json) await printJson(now);
      else await print(text(now));
      if (o.watch === undefined) return;
      await pause(o.watch, stop.signal);
      if (stop.signal.aborted) return;
      if (!o.json) await print("");
    }
  },
});

function text(
  {
    consumers,
    delayed,
    inboxes,
    log,
    relays,
    retention,
    schedules,
    schemaVersion,
    warnings,
    watches,
  }: Status,
): string {
  const halted = consumers.flatMap((one) =>
    one.halted.map((each) => [one.consumer, each] as const)
  );
  const failing = consumers.filter((one) => one.failing !== null);
  const newer = consumers.filter((one) => one.newer !== null);
  const rows = `${log.exact ? "" : "about "}${countText(log.rows, "notification")}`;
  return blocks(
    consumers.length === 0 ? "no consumer is registered" : table(
      "consumer, channels, unread, lag, waiting, oldest, dead, served by, handled, last progress",
      consumers.map((one) => [
        one.consumer,
        shortened(one.channels.join(", ")),
        count(one.unread, one.serving || sleepsWell(one) ? undefined : "yellow", one.unreadCapped),
        age(one.unread, one.lagSeconds),
        count(one.waiting, "yellow"),
        age(one.waiting, one.waitingSeconds),
        count(one.dead, "red"),
        served(one),
        one.handled,
        ago(one.acknowledgedAt),
      ]),
    ),
    failing.length === 0 ? "" : table(
      "failing, notifications, the first, attempts, last attempt, next attempt, error",
      failing.map((one) => [
        one.consumer,
        count(one.failing!.count),
        plain(one.failing!.id),
        one.failing!.attempts,
        ago(one.failing!.failedAt),
        nextAttempt({
          state: null,
          due: one.failing!.nextAttemptAt,
          hasWorker: one.workers > 0 || one.asleep !== null,
          isPaused: one.pausedAt !== null,
        }),
        { text: one.failing!.error ?? "no message", style: "red" },
      ]),
    ),
    newer.length === 0 ? "" : table(
      "waits for a newer worker, notifications, the first, reason",
      newer.map((one) => [
        one.consumer,
        count(one.newer!.count),
        plain(one.newer!.id),
        { text: one.newer!.reason, style: "yellow" },
      ]),
    ),
    halted.length === 0 ? "" : table(
      "held up, partition, by notification, what to do",
      halted.map(([consumer, { partition, id }]) => [
        consumer,
        plain(partition),
        plain(id),
        {
          text: `let it succeed, or hark discard ${shellWord(consumer)} ${id}`,
          style: "yellow",
        },
      ]),
    ),
    warnings.length === 0 ? "" : holdingTable(warnings, "yellow"),
    driftTable(watches),
    facts([
      ["log", `${rows}, ${bytesText(log.bytes)}, schema version ${schemaVersion}`],
      ["retention", retention.length === 0 ? nothingIsRemoved : retentionText(retention)],
      ...delayedFacts(delayed),
      ...scheduleFacts(schedules),
      ...relayFacts(relays),
      ...inboxFacts(inboxes),
    ]),
  );
}

/** How long ago the oldest of some was published; a dash if there is none. */
function age(count: number, seconds: number): Cell {
  return { text: count === 0 ? "-" : durationText(seconds * 1000), right: true };
}

/** How long a delivery may be overdue, in ms, before it seems that no worker runs to make it. */
const overdue = 30_000;

function delayedFacts({ count, capped, nextAt }: DelayedStatus): [string, Cell][] {
  if (nextAt === null) return [];
  const what = `${capped ? "at least " : ""}${countText(count, "notification")}`;
  return [[
    "delayed",
    Date.now() - nextAt.getTime() < overdue ? `${what}, the first is due ${until(nextAt)}` : {
      text: `${what}, the first was due ${ago(nextAt)}: ` +
        "it seems that no worker or subscription runs to deliver it",
      style: "yellow",
    },
  ]];
}

function scheduleFacts({ count, nextAt, problems }: SchedulesStatus): [string, Cell][] {
  if (count === 0) return [];
  const isLate = nextAt !== null && Date.now() - nextAt.getTime() >= overdue;
  const next = nextAt === null
    ? "none is due"
    : isLate
    ? `the first was due ${ago(nextAt)}: it seems that no worker runs to publish it`
    : `the first is due ${until(nextAt)}`;
  const wrong = problems.length === 0
    ? ""
    : `; ${countText(problems.length, "schedule")} cannot be published: hark schedule list`;
  return [["schedules", {
    text: `${countText(count, "schedule")}, ${next}${wrong}`,
    style: isLate || wrong !== "" ? "yellow" : undefined,
  }]];
}

/** Where relays publish. A relay that waits for its target says so. */
function relayFacts(relays: readonly RelayStatus[]): [string, Cell][] {
  return relays.map((one) => {
    const { relay, targets, trouble, troubleSince } = one;
    const failing = endpointsText(one);
    return ["relay", {
      text: `${named(relay)} publishes to ${targets.map(visible).join(", ")}${
        trouble === null ? "" : `; it has waited since ${ago(troubleSince)}: ${visible(trouble)}`
      }${failing === "" ? "" : `; ${failing}: hark relay ${shellWord(relay)} --endpoints`}`,
      style: trouble === null && failing === "" ? undefined : "yellow",
    }];
  });
}

/** Inboxes with dead letters: nothing else says that messages of a stream were not published. */
function inboxFacts(inboxes: readonly InboxStatus[]): [string, Cell][] {
  const waiting = inboxes.filter(({ trouble }) => trouble !== null).map((
    { inbox, trouble, troubleSince },
  ): [string, Cell] => ["inbox", {
    text: `${named(inbox)} has waited since ${ago(troubleSince)}: ${visible(trouble!)}`,
    style: "yellow",
  }]);
  const dead = inboxes.filter(({ dead }) => dead > 0).map((
    { inbox, dead, deadSince },
  ): [string, Cell] => ["inbox", {
    text: `${named(inbox)} has ${countText(dead, "dead letter")}, the first from ${
      ago(deadSince)
    }: hark inbox ${shellWord(inbox)} --dead`,
    style: "red",
  }]);
  return [...waiting, ...dead];
}

function served(one: ConsumerStatus): Cell {
  const { served, serving, leaseUntil, owner, workers, standingBy, partitions, pausedAt } = one;
  const serve = workers - standingBy;
  const text = [
    pausedAt === null ? "" : "paused",
    serving
      ? serve === 1 ? workerText(one.worker, owner) : countText(serve, "worker")
      : one.asleep === null
      ? "no worker"
      : "",
    one.asleep === null ? "" : asleepText(one.asleep),
    serving || one.asleep !== null || owner === null || leaseUntil === null
      ? ""
      : leaseText(leaseUntil),
    standingBy === 0 ? "" : `${numberText(standingBy)} standing by`,
    serving && served < partitions ? `${served} of ${partitions} partitions` : "",
    one.nextPartitions === null ? "" : `changing to ${countText(one.nextPartitions, "partition")}`,
  ].filter((part) => part !== "").join(", ");
  const isLeft = !serving && one.unread > 0 && !sleepsWell(one);
  return { text, style: pausedAt !== null || isLeft ? "yellow" : undefined };
}

/** Workers that sleep, and when the first wakes by itself. */
function asleepText({ workers, worker, wakesAt }: SleepingWorkers): string {
  const sleepers = workers === 1 ? worker ?? "1 worker" : countText(workers, "worker");
  return `${sleepers} asleep, wakes ${until(wakesAt)} at the latest`;
}

/** A worker by its host and process; by the beginning of its number if these are not known. */
export function workerText(name: string | null, owner: string | null): string {
  return name ?? owner?.slice(0, 8) ?? "-";
}

/** When a lease without a worker ends or ended: that of a killed worker still runs for a while. */
export function leaseText(end: Date): string {
  return end.getTime() > Date.now() ? `lease ends ${until(end)}` : `lease ended ${ago(end)}`;
}

const reasonTexts: Readonly<Record<HoldingReason, string>> = {
  behind: "its position has not passed it",
  inactive: "no worker serves it",
  paused: "is paused",
  waiting: "will retry it",
  replaying: "will replay it",
};

/** The consumers that hold back cleanup, and why. */
export function holdingTable(holding: readonly HoldingConsumer[], style?: "yellow"): string {
  return table(
    "holds back cleanup, oldest kept, published, reason",
    holding.map(({ consumer, oldest, reasons }) => [
      { text: consumer, style },
      ago(oldest),
      timeText(oldest),
      reasons.map((reason) => reasonTexts[reason]).join(", "),
    ]),
  );
}

/** A row for each watch that has drifted; empty if none has. */
export function driftTable(watches: readonly WatchStatus[]): string {
  const drifted = watches.filter(({ drift }) => drift.length > 0);
  if (drifted.length === 0) return "";
  return table(
    "drifted table, watch, problem",
    drifted.map(({ table, name, exists, drift }) => {
      const option = name === "watch" ? "" : ` --name ${shellWord(name)}`;
      const lines = exists ? drift : [...drift, `hark watch remove ${shellWord(table)}${option}`];
      return [table, name, { text: lines.join("\n"), style: exists ? "yellow" : "red" }];
    }),
  );
}
