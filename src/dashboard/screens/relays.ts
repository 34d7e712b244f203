/**
 * Relays and inboxes: what leaves this database for another system, and what comes from one.
 *
 * @module
 */

import { type DeadMessageInShort, deadMessagesInShort } from "../../inbox/dead_in_short.ts";
import type { InboxStatus } from "../../inbox/status.ts";
import type { ConsumerStatus } from "../../operate/consumer_status.ts";
import { endpointsText, type RelayStatus } from "../../operate/relays.ts";
import { htm, type Html } from "../html.ts";
import { deadLetters, deadMessages, toConsumer } from "../links.ts";
import {
  badge,
  bytes,
  count,
  empty,
  facts,
  lag,
  link,
  name,
  seconds,
  section,
  table,
  value,
  when,
} from "../parts.ts";
import { act, button, type Screen, type View } from "../view.ts";
import { stateOf, trendText } from "./consumers.ts";

const limit = 50;

/** All relays and inboxes, and the dead letters of one inbox. */
export const relays: Screen = {
  title: () => "Relays and inboxes",
  under: "/relays",
  async regions(view) {
    const inbox = view.query.get("inbox");
    if (inbox !== null) return await one(view, inbox);
    const { relays, inboxes } = view.look.status;
    return [
      { id: "relays", body: section("Relays", relayTable(view, relays)) },
      { id: "endpoints", body: endpointTable(view, relays) },
      { id: "inboxes", body: section("Inboxes", inboxTable(view, inboxes)) },
    ];
  },
};

function relayTable(view: View, all: readonly RelayStatus[]): Html {
  if (all.length === 0) return empty("No relay has published from this database yet.");
  return table(
    "Relays",
    ["Relay", "State", "Publishes to", "#Lag", "Trend", "#Unread", "#Dead", "Last error"],
    all.flatMap((one) => {
      const consumer = view.look.status.consumers.find(({ consumer }) => consumer === one.relay);
      if (consumer === undefined) return [];
      const { dead, unread, unreadCapped, failing } = consumer;
      return [{
        key: one.relay,
        tone: relayState(one, consumer)[0],
        cells: [
          toConsumer(view, one.relay, "name"),
          badge(...relayState(one, consumer)),
          htm`<bdi class="mono">${one.targets.join(", ")}</bdi>`,
          seconds(lag(consumer)),
          trendText(view, consumer),
          count(unread, unreadCapped),
          deadLetters(view, one.relay, dead),
          lastError(one.trouble ?? failing?.error ?? null, one.troubleSince ?? failing?.failedAt),
        ],
      }];
    }),
  );
}

function relayState(one: RelayStatus, consumer: ConsumerStatus): ReturnType<typeof stateOf> {
  if (one.trouble !== null) return ["bad", "waits for its target"];
  if (one.disabledEndpoints > 0) return ["bad", endpointsText(one)];
  const state = stateOf(consumer);
  return state[0] === "bad" || one.failingEndpoints === 0 ? state : ["warn", endpointsText(one)];
}

/** The endpoints of webhooks that take nothing, at most ten of each relay. */
function endpointTable(view: View, all: readonly RelayStatus[]): Html {
  const rows = all.flatMap(({ relay, endpoints }) => endpoints.map((one) => ({ relay, ...one })));
  if (rows.length === 0) return htm``;
  return section(
    "Endpoints that take nothing",
    table(
      "Endpoints that take nothing",
      ["Relay", "Endpoint", "State", "Since", "Last error", ""],
      rows.map(({ relay, endpoint, disabled, failingSince, reason }) => ({
        key: `${relay}/${endpoint}`,
        tone: disabled ? "bad" as const : "warn" as const,
        cells: [
          toConsumer(view, relay),
          name(endpoint),
          disabled ? badge("bad", "disabled") : badge("warn", "asked again"),
          when(failingSince),
          lastError(reason, undefined),
          htm`<div class="acts">${
            act(view, "ask", { relay, endpoint }, button("Ask it again"))
          }</div>`,
        ],
      })),
    ),
  );
}

function inboxTable(view: View, all: readonly InboxStatus[]): Html {
  if (all.length === 0) return empty("No inbox has taken messages into this database yet.");
  return table(
    "Inboxes",
    [
      "Inbox",
      "State",
      "Reads from",
      "#Message",
      "#Left in the stream",
      "Last taken",
      "#Dead",
      "Last error",
    ],
    all.map((one) => ({
      key: one.inbox,
      tone: one.trouble !== null || one.dead > 0 ? "bad" as const : undefined,
      cells: [
        link(view.to("/relays"), { inbox: one.inbox }, htm`<bdi>${one.inbox}</bdi>`, "name"),
        badge(...inboxState(one)),
        htm`<bdi class="mono">${one.source}</bdi>`,
        count(one.place),
        one.pending === null ? htm`<span class="dim">-</span>` : count(one.pending),
        when(one.takenAt),
        deadMessages(view, one.inbox, one.dead),
        lastError(one.trouble ?? one.deadReason, one.troubleSince),
      ],
    })),
  );
}

function inboxState({ trouble, dead }: InboxStatus): ["good" | "bad" | "calm", string] {
  if (trouble !== null) return ["bad", "waits for its stream"];
  return dead > 0 ? ["bad", "has dead letters"] : ["good", "no trouble"];
}

function lastError(text: string | null, since: Date | null | undefined): Html {
  return text === null
    ? htm`<span class="dim">-</span>`
    : htm`<span class="error-text">${text}</span>${
      since == null ? "" : htm` <small>${when(since)}</small>`
    }`;
}

async function one(view: View, inbox: string) {
  const found = view.look.status.inboxes.find((other) => other.inbox === inbox);
  if (found === undefined) {
    return [{
      id: "head",
      body: empty(
        htm`There is no inbox ${name(inbox)}. ${link(view.to("/relays"), {}, "All inboxes")}`,
      ),
    }];
  }
  const after = Number(view.query.get("after")) || 0;
  const dead = await view.reading((tx) => deadMessagesInShort(tx, inbox, after, limit));
  return [
    { id: "head", body: head(found) },
    {
      id: "dead",
      body: section("Messages that could not be published", letters(view, found, dead)),
    },
  ];
}

function head(one: InboxStatus): Html {
  return facts([
    ["Inbox", name(one.inbox)],
    ["State", badge(...inboxState(one))],
    ["Reads from", htm`<bdi class="mono">${one.source}</bdi>`],
    ["Last message", count(one.place)],
    ["Last taken", when(one.takenAt)],
    ["Left in the stream then", one.pending === null ? "not known" : count(one.pending)],
    ["Dead letters", count(one.dead, one.dead >= 1000)],
    ["Waits for", lastError(one.trouble, one.troubleSince)],
  ]);
}

function letters(
  view: View,
  { inbox, dead }: InboxStatus,
  all: readonly DeadMessageInShort[],
): Html {
  if (all.length === 0) return empty("Every message was published.");
  const last = all.at(-1)!;
  return htm`${
    table(
      "Dead letters",
      ["#Number", "#Message", "Subject", "#Size", "Why", "Since", ""],
      all.map((each) => ({
        key: each.number,
        cells: [
          each.number,
          each.sequence,
          value(each.subject),
          bytes(each.bytes),
          htm`<span class="error-text">${each.reason}</span>`,
          when(each.failedAt),
          htm`<div class="acts">${
            act(view, "redrive", { inbox, number: each.number }, button("Publish"))
          }${act(view, "drop", { inbox, number: each.number }, button("Discard", "danger"))}</div>`,
        ],
      })),
    )
  }<div class="acts">${
    act(view, "redrive", { inbox }, button(`Publish all${dead > 1000 ? ", 1,000 at a time" : ""}`))
  }${
    all.length < limit
      ? ""
      : link(view.to("/relays"), { inbox, after: last.number }, "Newer", "button")
  }</div>${
    view.mayAct
      ? htm`<p><small>After the repair, publish them. If the inbox has a <code>map</code> of its own, its program has to do so: <code>redrive(db, id, { map })</code>.</small></p>`
      : ""
  }`;
}
