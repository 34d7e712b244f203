/**
 * What is wrong with consumers, the log and watches, judged by the facts.
 *
 * @module
 */

import type { WatchStatus } from "../../changes/watches.ts";
import { durationText, numberText } from "../../show.ts";
import { type ConsumerStatus, hasWork, sleepsWell } from "../consumer_status.ts";
import type { Status } from "../status.ts";
import { ofFlows } from "./diagnose_flows.ts";
import type { Facts } from "./facts.ts";
import type { Count, Find, Finding, Thresholds } from "./finding.ts";
import { shellWord } from "../../visible.ts";

/**
 * How long a delivery, or a removal, may be late before it seems that no worker runs to do it, in ms.
 * Workers that sleep wake once a day.
 */
const late = { delayed: 30_000, retention: 600_000, asleep: 90_000_000 };
const longAgo = 30 * 86_400_000;

/** The findings about what Hark does. */
export function ofConsumers(facts: Facts, thresholds: Thresholds, find: Find): Finding[] {
  const { status, maxCount } = facts;
  if (status === undefined) return [];
  const count: Count = (number) => `${numberText(number)}${number >= maxCount ? " or more" : ""}`;
  const stopped = status.consumers.flatMap((one) => notAtWork(one, count, find));
  return [
    ...status.consumers.flatMap((one) => troubled(one, count, find)),
    ...stopped,
    ...retention(facts, status, find),
    ...delayed(status, count, find),
    ...scheduled(status, find),
    ...ofFlows(status, count, find),
    ...size(facts, status, thresholds, find),
    // Of a consumer without a worker, that is told already.
    ...holding(
      status.warnings.filter((one) => stopped.every(({ consumer }) => consumer !== one.consumer)),
      find,
    ),
    ...facts.polling.map(({ consumer, worker }) =>
      find(
        "warning",
        "polling",
        `worker ${worker} of "${consumer}" is not woken, and only polls`,
        "Unless it is a long drain, connect it directly to the server: LISTEN does not work through a " +
          "transaction pooler.",
        consumer,
      )
    ),
    ...status.watches.filter(({ drift }) => drift.length > 0).map((one) => drifted(one, find)),
  ];
}

function drifted({ table, name, exists, drift }: WatchStatus, find: Find): Finding {
  const option = name === "watch" ? "" : ` --name ${shellWord(name)}`;
  return find(
    "warning",
    "drift",
    `the watch "${name}" of ${table} has drifted: ${drift.map(withoutRemedy).join("; ")}`,
    `hark watch ${exists ? "repair" : "remove"} ${shellWord(table)}${option}.`,
  );
}

/** What has drifted, without the remedy that SQL adds. */
function withoutRemedy(drift: string): string {
  return drift.replace(/; repair it \(.*\)$/, "");
}

/** What a consumer cannot get done. */
function troubled(
  { consumer, halted, newer, dead }: ConsumerStatus,
  count: Count,
  find: Find,
): Finding[] {
  const word = shellWord(consumer);
  const found: Finding[] = halted.map(({ partition, id, reason }) =>
    find(
      "warning",
      "held-up",
      `partition ${partition} of "${consumer}" is held up (${reason}) by notification ${id}`,
      `Let it succeed, or hark discard ${word} ${id}.`,
      consumer,
    )
  );
  if (newer !== null) {
    found.push(find(
      "warning",
      "newer",
      `${count(newer.count)} of "${consumer}" wait for a newer worker: ${newer.reason}`,
      "Deploy the version of the program that has published them, and stop the older workers.",
      consumer,
    ));
  }
  if (dead > 0) {
    const letters = `${count(dead)} dead ${dead === 1 ? "letter" : "letters"}`;
    found.push(find(
      "warning",
      "dead",
      `"${consumer}" has ${letters}`,
      `See hark dead list ${word}. Then hark retry ${word} --all, or hark discard ${word} --all.`,
      consumer,
    ));
  }
  return found;
}

/** Why no worker does what a consumer has to do. */
function notAtWork(one: ConsumerStatus, count: Count, find: Find): Finding[] {
  const { consumer, serving, unread, unreadCapped, pausedAt, asleep } = one;
  if (!hasWork(one)) return [];
  const work = workText(one, count);
  const warning = (code: string, problem: string, remedy: string) => [
    find("warning", code, problem, remedy, consumer),
  ];
  if (pausedAt !== null) {
    return warning(
      "paused",
      `"${consumer}" was paused ${durationText(Date.now() - pausedAt.getTime())} ago, with ${work}`,
      `hark resume ${shellWord(consumer)}.`,
    );
  }
  if (serving || sleepsWell(one)) return [];
  if (asleep !== null) {
    return warning(
      "asleep",
      `"${consumer}" sleeps, although ${numberText(unread)}${
        unreadCapped ? " or more" : ""
      } unread have waited for ${durationText(one.lagSeconds * 1000)}`,
      asleep.listening
        ? "Was it published with hark.wake off? Restart its worker."
        : "NOTIFY does not wake it: hark wake --to URL, or call wakeUp after publishing.",
    );
  }
  return warning(
    "unserved",
    `no worker serves "${consumer}": ${work}`,
    `Start a worker, or hark consumers remove ${shellWord(consumer)} if it is gone for good.`,
  );
}

/** What a consumer has to do, such as `3 unread, 1 replay to make`. */
function workText(
  { unread, unreadCapped, waiting, replays }: ConsumerStatus,
  count: Count,
): string {
  return [
    unread > 0
      ? `${numberText(unread)}${unreadCapped ? " or more" : ""} unread`
      : unreadCapped
      ? "a backlog that is too long to be counted"
      : "",
    waiting > 0 ? `${count(waiting)} waiting` : "",
    replays > 0 ? `${numberText(replays)} ${replays === 1 ? "replay" : "replays"} to make` : "",
  ].filter((part) => part !== "").join(", ");
}

function retention({ oldest }: Facts, { retention, consumers }: Status, find: Find): Finding[] {
  const most = consumers.some(({ asleep }) => asleep !== null) ? late.asleep : late.retention;
  if (retention.length === 0) {
    if (oldest === null || Date.now() - oldest.getTime() < longAgo) return [];
    return [find(
      "warning",
      "retention",
      `nothing is ever removed from the log: its oldest notification is ${
        durationText(Date.now() - oldest.getTime())
      } old`,
      "Say how long to keep notifications: hark retention set 30d. If hark cleanup runs from cron, or all " +
        "is to be kept: hark retention set forever.",
    )];
  }
  return retention.filter(({ keep, appliedAt, setAt }) =>
    keep !== null && Date.now() - (appliedAt ?? setAt).getTime() > most
  ).map(({ channel, appliedAt }) =>
    find(
      "warning",
      "retention",
      `no worker applies the retention of ${
        channel === null ? "all channels" : `channel "${channel}"`
      }: ${
        appliedAt === null
          ? "never so far"
          : `last ${durationText(Date.now() - appliedAt.getTime())} ago`
      }`,
      "Run a worker, or hark cleanup from cron.",
    )
  );
}

function delayed({ delayed }: Status, count: Count, find: Find): Finding[] {
  const overdue = delayed.nextAt === null ? 0 : Date.now() - delayed.nextAt.getTime();
  if (overdue < late.delayed) return [];
  return [find(
    "warning",
    "delayed",
    `${count(delayed.count)} delayed, and the first has been due for ${
      durationText(overdue)
    }: no worker delivers it`,
    "Run a worker or a subscription.",
  )];
}

function scheduled({ schedules: { nextAt, problems } }: Status, find: Find): Finding[] {
  const overdue = nextAt === null ? 0 : Date.now() - nextAt.getTime();
  return [
    ...overdue < late.delayed ? [] : [find(
      "warning",
      "schedules",
      `a schedule has been due for ${durationText(overdue)}: no worker publishes it`,
      "Run a worker.",
    )],
    ...problems.map((name) =>
      find(
        "warning",
        "schedules",
        `the schedule "${name}" publishes nothing any more`,
        "See hark schedule list.",
      )
    ),
  ];
}

function size(
  { overflow, oldest }: Facts,
  { log }: Status,
  { maxLogBytes }: Thresholds,
  find: Find,
): Finding[] {
  const mb = (bytes: number) => `${numberText(Math.round(bytes / 1024 ** 2))} MB`;
  const days = oldest === null ? 0 : (Date.now() - oldest.getTime()) / 86_400_000;
  // Of less than a day it would say little.
  const growth = days < 1 ? "" : `, and has grown by about ${mb(log.bytes / days)} a day`;
  return [
    ...log.bytes > maxLogBytes
      ? [find(
        "warning",
        "size",
        `the log takes ${mb(log.bytes)} for about ${numberText(log.rows)} notifications${growth}`,
        "Keep notifications for less: hark retention. See which consumers hold back cleanup: hark status.",
      )]
      : [],
    ...overflow > 16 * 1024 ** 2
      ? [find(
        "warning",
        "overflow",
        `the log's overflow segment has ${mb(overflow)}: no worker has made segments in time`,
        "Run a worker, or select hark.extend(true) while few publish.",
      )]
      : [],
  ];
}

function holding(warnings: Status["warnings"], find: Find): Finding[] {
  return warnings.map(({ consumer, oldest, reasons }) =>
    find(
      "warning",
      "holding",
      `"${consumer}" holds back cleanup of notifications from ${
        durationText(Date.now() - oldest.getTime())
      } ago (${reasons.join(", ")})`,
      `See hark consumers show ${shellWord(consumer)}.`,
      consumer,
    )
  );
}
