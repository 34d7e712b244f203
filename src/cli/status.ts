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
import { withoutSecrets } from "../database/url.ts";
import { aDay, ageBounds } from "../duration.ts";
import { HarkError } from "../errors.ts";
import type { HoldingConsumer, HoldingReason } from "../operate/holding.ts";
import { sleepsWell } from "../operate/consumer_status.ts";
import type { Status } from "../operate/status.ts";
import { databaseCommand, show } from "./args/command.ts";
import { nextAttempt } from "./next_attempt.ts";
import { needed, plainText } from "./args/options.ts";
import { complain, print } from "./print/output.ts";
import { visibleLines } from "./print/style.ts";
import { nothingIsRemoved, retentionText } from "./retention.ts";
import { served } from "./served_by.ts";
import { stopping } from "./process/signals.ts";
import {
  delayedFacts,
  inboxFacts,
  relayFacts,
  replayFacts,
  scheduleFacts,
} from "./status_facts.ts";
import { surroundings } from "./process/surroundings.ts";
import { blocks, type Cell, count, facts, plain, tableOf } from "./print/table.ts";
import {
  ago,
  bytesText,
  countText,
  durationText,
  shellWord,
  shortened,
  timeText,
} from "./print/text.ts";
import { duration, maybeDuration } from "./args/values.ts";

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
        "Repeat after this time, until Ctrl-C, also after a loss of the database.",
      ),
      map(flag("--watch", { description: plainText("Repeat after 2 seconds.") }), () => 2000),
    )),
    warnAfter: maybeDuration(
      "--warn-after",
      "Warn of consumers that keep notifications older than this. Default: 7d.",
      ageBounds,
    ),
  },
  async run(db, { watch, ...o }, json) {
    const { status } = await import("../operate/status.ts");
    const { isPassing } = await import("../database/translate.ts");
    using stop = stopping();
    for (let looks = 0;; looks++) {
      const now = await status(db, o).catch(async (error) => {
        // The first look may be at a wrong database; a later one fails while that one restarts.
        if (looks === 0 || !(error instanceof HarkError && isPassing(error))) throw error;
        await complain(visibleLines(withoutSecrets(error.message)));
      });
      if (now !== undefined) {
        const clears = watch !== undefined && surroundings().stdout.isTerminal();
        if (!json && (clears || looks > 0)) await print(clears ? "\x1b[2J\x1b[H" : "");
        await show({ json: now, text: text(now) }, json);
      }
      if (watch === undefined) return;
      await pause(watch, stop.signal);
      if (stop.signal.aborted) return;
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
  const rows = `${log.exact ? "" : "about "}${countText(log.rows, "notification")}`;
  return blocks(
    tableOf(
      consumers,
      "consumer, channels, unread, lag, waiting, oldest, dead, served by, handled, last progress",
      (one) => [
        one.consumer,
        shortened(one.channels.join(", ")),
        count(one.unread, one.serving || sleepsWell(one) ? undefined : "yellow", one.unreadCapped),
        age(one.unreadCapped ? 1 : one.unread, one.lagSeconds),
        count(one.waiting, "yellow"),
        age(one.waiting, one.waitingSeconds),
        count(one.dead, "red"),
        served(one),
        one.handled,
        ago(one.acknowledgedAt),
      ],
      "no consumer is registered",
    ),
    tableOf(
      consumers.filter((one) => one.failing !== null),
      "failing, notifications, the first, attempts, last attempt, next attempt, error",
      (one) => [
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
      ],
    ),
    tableOf(
      consumers.filter((one) => one.newer !== null),
      "waits for a newer worker, notifications, the first, reason",
      (one) => [
        one.consumer,
        count(one.newer!.count),
        plain(one.newer!.id),
        { text: one.newer!.reason, style: "yellow" },
      ],
    ),
    tableOf(
      halted,
      "held up, partition, by notification, what to do",
      ([consumer, { partition, id }]) => [
        consumer,
        plain(partition),
        plain(id),
        {
          text: `let it succeed, or hark discard ${shellWord(consumer)} ${id}`,
          style: "yellow",
        },
      ],
    ),
    holdingTable(warnings, "yellow"),
    driftTable(watches),
    facts([
      ...replayFacts(consumers),
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

const reasonTexts: Readonly<Record<HoldingReason, string>> = {
  behind: "its position has not passed it",
  inactive: "no worker serves it",
  paused: "is paused",
  waiting: "will retry it",
  replaying: "will replay it",
};

/** The consumers that hold back cleanup, and why; empty if there is none. */
export function holdingTable(holding: readonly HoldingConsumer[], style?: "yellow"): string {
  return tableOf(
    holding,
    "holds back cleanup, oldest kept, published, reason",
    ({ consumer, oldest, reasons }) => [
      { text: consumer, style },
      ago(oldest),
      timeText(oldest),
      reasons.map((reason) => reasonTexts[reason]).join(", "),
    ],
  );
}

/** A row for each watch that has drifted; empty if none has. */
export function driftTable(watches: readonly WatchStatus[]): string {
  return tableOf(
    watches.filter(({ drift }) => drift.length > 0),
    "drifted table, watch, problem",
    ({ table, name, exists, drift }) => {
      const option = name === "watch" ? "" : ` --name ${shellWord(name)}`;
      const lines = exists ? drift : [...drift, `hark watch remove ${shellWord(table)}${option}`];
      return [table, name, { text: lines.join("\n"), style: exists ? "yellow" : "red" }];
    },
  );
}
