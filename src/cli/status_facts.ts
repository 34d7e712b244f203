/**
 * What `hark status` says in its last lines, beside the consumers.
 *
 * @module
 */

import type { InboxStatus } from "../inbox/status.ts";
import type { ConsumerStatus } from "../operate/consumer_status.ts";
import { endpointsText, type RelayStatus } from "../operate/relays.ts";
import type { SchedulesStatus } from "../operate/schedules.ts";
import type { DelayedStatus } from "../operate/status.ts";
import { visible } from "./print/style.ts";
import type { Cell } from "./print/table.ts";
import { ago, countText, named, shellWord, until } from "./print/text.ts";

/** How long a delivery may be overdue, in ms, before it seems that no worker runs to make it. */
const overdue = 30_000;

export function delayedFacts({ count, capped, nextAt }: DelayedStatus): [string, Cell][] {
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

export function scheduleFacts({ count, nextAt, problems }: SchedulesStatus): [string, Cell][] {
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

/** Consumers that have to make a replay: that counts neither as unread nor as waiting. */
export function replayFacts(consumers: readonly ConsumerStatus[]): [string, Cell][] {
  return consumers.filter(({ replays }) => replays > 0).map(({ consumer, replays, serving }) => [
    "replay",
    {
      text: `${named(consumer)} has ${countText(replays, "replay")} to make${
        serving ? "" : ", and no worker serves it"
      }: hark consumers show ${shellWord(consumer)}`,
      style: serving ? undefined : "yellow",
    },
  ]);
}

/** Where relays publish. A relay that waits for its target says so. */
export function relayFacts(relays: readonly RelayStatus[]): [string, Cell][] {
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
export function inboxFacts(inboxes: readonly InboxStatus[]): [string, Cell][] {
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
