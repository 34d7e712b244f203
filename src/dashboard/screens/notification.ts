/**
 * One notification, and what became of it.
 *
 * @module
 */

import { parseDigits } from "../../exact_json.ts";
import {
  type NotificationDetails,
  readNotification,
  type Verdict,
} from "../../operate/notification.ts";
import { notifications } from "../../operate/notifications.ts";
import { type Wait, waitsBehind } from "../../operate/waits_behind.ts";
import { htm, type Html } from "../html.ts";
import { toChannel, toConsumer, toNotification } from "../links.ts";
import {
  badge,
  bytes,
  command,
  countText,
  empty,
  facts,
  link,
  section,
  table,
  type Tone,
  value,
  when,
} from "../parts.ts";
import { contents, maySearch, redacted, showsPayload } from "../payload.ts";
import type { Screen, View } from "../view.ts";
import { ofVerdict, reasonList } from "../why.ts";

/** How far to look for the next and the previous of a key. */
const nearby = 20_000;

/** One notification. */
export const notification: Screen = {
  title: (query) => `Notification ${Number(query.get("id")) || ""}`,
  under: "/log",
  async regions(view) {
    const id = Number(view.query.get("id"));
    if (!Number.isSafeInteger(id) || id < 1) {
      return [{ id: "head", body: empty("Give the id of a notification.") }];
    }
    const { found, waits, previous, next } = await view.reading(async (tx) => {
      const found = await readNotification(tx, id, parseDigits);
      const { key, channel } = found ?? {};
      const beside = async (side: { before: number } | { after: number }) =>
        typeof key !== "string" || typeof channel !== "string"
          ? undefined
          : (await notifications(tx, {
            channels: channel,
            key,
            ...side,
            newestFirst: "before" in side,
            limit: 1,
            maxScanned: nearby,
          })).notifications[0]?.id;
      return {
        found,
        waits: await waitsBehind(tx, id),
        previous: await beside({ before: id }),
        next: await beside({ after: id }),
      };
    });
    if (found === null) {
      return [{
        id: "head",
        body: empty(`The log has no notification ${id}, and no consumer has kept it.`),
      }];
    }
    return [
      { id: "head", body: head(view, found, previous, next) },
      { id: "verdicts", body: section("What became of it", verdicts(view, found, waits)) },
      { id: "contents", body: section("Contents", body(view, found)) },
    ];
  },
};

function head(
  view: View,
  found: NotificationDetails,
  previous: number | undefined,
  next: number | undefined,
): Html {
  const { key, headers } = redacted(view, found);
  const trace = traceOf(headers);
  return htm`${
    facts([
      [
        "Channel",
        found.channel === null ? "-" : toChannel(view, found.channel),
      ],
      [
        "Key",
        key === null
          ? "none"
          : !maySearch(view)
          ? value(key)
          : link(view.to("/log"), { channel: found.channel ?? undefined, key }, value(key)),
      ],
      ["Published", when(found.createdAt, "not known")],
      ["Size", bytes(found.bytes)],
      ["In the log", found.inLog ? "yes" : "no: this is a consumer's copy"],
      ...trace === undefined ? [] : [["Trace", traceLink(view, trace)] as const],
      [
        "Of its key",
        key === null
          ? "-"
          : htm`${
            previous === undefined
              ? "no earlier one nearby"
              : toNotification(view, previous, `← ${previous}`)
          } · ${
            next === undefined ? "no later one nearby" : toNotification(view, next, `${next} →`)
          }`,
      ],
    ])
  }<p class="line">${command(`hark log show ${found.id}`)}</p>`;
}

const tones: Readonly<Record<Verdict, readonly [Tone, string]>> = {
  handled: ["good", "handled"],
  unread: ["calm", "not reached yet"],
  waiting: ["warn", "waits"],
  dead: ["bad", "given up"],
  filtered: ["calm", "filtered out"],
  foreign: ["calm", "not its channel"],
  absent: ["calm", "gone"],
};

function verdicts(view: View, found: NotificationDetails, waits: readonly Wait[]): Html {
  const own = found.consumers.filter(({ verdict }) =>
    verdict !== "foreign" && verdict !== "absent"
  );
  const others = found.consumers.length - own.length;
  if (own.length === 0) return empty("No consumer reads its channel.");
  return htm`${
    table(
      "Consumers",
      ["Consumer", "State", "#Attempts", "Last error", "Why, and what to do"],
      own.map((one) => ({
        key: one.consumer,
        cells: [
          toConsumer(view, one.consumer, "name"),
          badge(...tones[one.verdict]),
          one.attempts === 0 ? htm`<span class="dim">-</span>` : one.attempts,
          one.error === null
            ? htm`<span class="dim">-</span>`
            : htm`<span class="error-text">${one.error}</span> <small>${
              when(one.failedAt)
            }</small>`,
          reasons(view, found.id, one, waits),
        ],
      })),
    )
  }${
    others === 0
      ? ""
      : htm`<p><small>${countText(others, "other consumer")} ${
        others === 1 ? "does" : "do"
      } not read its channel.</small></p>`
  }`;
}

function reasons(
  view: View,
  id: number,
  one: NotificationDetails["consumers"][number],
  waits: readonly Wait[],
): Html {
  const found = ofVerdict(view, id, one, waits.find(({ consumer }) => consumer === one.consumer));
  if (found.length === 0) return htm`<span class="dim">-</span>`;
  if (found.length === 1 && found[0]!.said === "") return htm`${found[0]!.help}`;
  return reasonList(found, "");
}

function body(view: View, found: NotificationDetails): Html {
  if (found.problem !== null) return empty(`It cannot be read: ${found.problem}`);
  if (!showsPayload(view)) {
    return empty(
      link(
        view.to("/notification"),
        { id: found.id, show: "payload" },
        "Show payload and headers",
        "button",
      ),
    );
  }
  return contents(redacted(view, found));
}

/** The trace that a `traceparent` header names. */
function traceOf(headers: Readonly<Record<string, unknown>>): string | undefined {
  const { traceparent } = headers;
  return typeof traceparent === "string"
    ? /^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(traceparent)?.[1]
    : undefined;
}

function traceLink(view: View, trace: string): Html {
  const url = view.settings.traceUrl?.(trace);
  return url === undefined || !/^https?:/.test(url)
    ? htm`<bdi class="mono">${trace}</bdi>`
    : htm`<a href="${url}" rel="noreferrer" class="mono">${trace}</a>`;
}
