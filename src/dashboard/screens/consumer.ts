/**
 * One consumer: what it waits for, its partitions and workers, and how to move it.
 *
 * @module
 */

import type { ConsumerStatus } from "../../operate/consumer_status.ts";
import { headsOf, partitionsOf, replaysOf, workersOf } from "../../operate/consumers.ts";
import { chart } from "../chart.ts";
import { hidden } from "../fields.ts";
import { htm, type Html } from "../html.ts";
import { deadLetters, toNotification } from "../links.ts";
import { maxCount, maxScanned } from "../look.ts";
import {
  badge,
  count,
  empty,
  facts,
  lag,
  link,
  name,
  numberText,
  rate,
  seconds,
  section,
  table,
  value,
  when,
} from "../parts.ts";
import { redacted } from "../payload.ts";
import { act, button, type Screen, type View } from "../view.ts";
import { ofConsumer, reasonList, tryOrDiscard } from "../why.ts";
import { lagOf, servedBy, stateOf, trendText } from "./consumers.ts";
import { workerHeads, workerRow } from "./workers.ts";

/** One consumer. */
export const consumer: Screen = {
  title: (query) => query.get("name") ?? "Consumer",
  under: "/consumers",
  async regions(view) {
    const id = view.query.get("name") ?? "";
    const one = view.look.status.consumers.find((other) => other.consumer === id);
    if (one === undefined) {
      return [{
        id: "head",
        body: empty(
          htm`There is no consumer ${name(id)}. ${
            link(view.to("/consumers"), {}, "All consumers")
          }`,
        ),
      }];
    }
    const [partitions, workers, heads, replays] = await view.reading(async (tx) =>
      [
        await partitionsOf(tx, id, maxCount, maxScanned),
        await workersOf(tx, id),
        await headsOf(tx, id),
        await replaysOf(tx, id),
      ] as const
    );
    return [
      { id: "head", body: head(view, one) },
      { id: "charts", body: charts(view, id) },
      {
        id: "heads",
        body: heads.length === 0 ? htm`` : section(
          "Will be tried again",
          table(
            "Waiting notifications",
            ["Notification", "Why", "Key", "#Attempts", "Next", "Error", ""],
            heads.map((each) => ({
              key: each.id,
              cells: [
                toNotification(view, each.id, String(each.id)),
                badge(each.state === "failed" ? "warn" : "calm", each.state),
                value(redacted(view, { ...each, payload: null, headers: {} }).key),
                each.attempts,
                when(each.dueAt),
                htm`<span class="error-text">${each.error}</span>`,
                tryOrDiscard(view, id, each.id),
              ],
            })),
          ),
          heads.length < 20 ? "" : htm`<small>the oldest 20 of ${numberText(one.waiting)}</small>`,
        ),
      },
      {
        id: "replays",
        body: replays.length === 0 ? htm`` : section(
          "Replays",
          table(
            "Replays",
            ["Replay", "Channels", "#Next id", "#Last id"],
            replays.map((each) => ({
              key: each.replay,
              cells: [each.replay, each.channels?.join(", ") ?? "all", each.nextId, each.toId],
            })),
          ),
        ),
      },
      {
        id: "partitions",
        body: section(
          "Partitions",
          table(
            "Partitions",
            [
              "Partition",
              "Owner",
              "Lease",
              "#Unread",
              "Oldest",
              "#Waiting",
              "#Handled",
              "#Epoch",
              "#Crashes",
            ],
            partitions.map((each) => ({
              key: each.partition,
              tone: each.serving ? undefined : "warn",
              cells: [
                each.partition,
                each.owner === null
                  ? htm`<span class="dim">none</span>`
                  : htm`${name(each.worker ?? each.owner.slice(0, 8))}${
                    each.serving ? "" : htm` ${badge("warn", "ended")}`
                  }`,
                each.owner === null ? "-" : when(each.leaseUntil, "-"),
                count(each.unread),
                when(each.oldestUnread, "-"),
                htm`${count(each.waiting)}${each.blocked ? htm` ${badge("warn", "failed")}` : ""}`,
                count(each.handled),
                each.epoch,
                count(each.crashes),
              ],
            })),
          ),
        ),
      },
      {
        id: "workers",
        body: workers.length === 0 ? htm`` : section(
          "Workers",
          table(
            "Workers",
            workerHeads,
            workers.map((each) => workerRow(view, { ...each, consumer: id }, false)),
          ),
        ),
      },
      { id: "moves", body: moves(view, one) },
    ];
  },
};

function head(view: View, one: ConsumerStatus): Html {
  const { consumer } = one;
  return htm`${
    facts([
      ["State", badge(...stateOf(one))],
      ["Lag", htm`${seconds(lag(one))} <small>${trendText(view, one)}</small>`],
      ["Unread", count(one.unread, one.unreadCapped)],
      ["Waiting for a retry", count(one.waiting)],
      ["Dead letters", deadLetters(view, consumer, one.dead)],
      ["Handled", htm`${count(one.handled)} <small>last ${when(one.acknowledgedAt)}</small>`],
      ["Served by", servedBy(one)],
      ["Channels", htm`<bdi>${one.channels.slice(0, 20).join(", ")}</bdi>`],
      ...view.look.status.relays.filter(({ relay }) => relay === consumer).map((
        { targets, trouble, troubleSince },
      ) =>
        [
          "Relays to",
          htm`<bdi class="mono">${targets.join(", ")}</bdi>${
            trouble === null
              ? ""
              : htm` ${
                badge("bad", "waits for it")
              } <span class="error-text">${trouble}</span> <small>since ${
                when(troubleSince)
              }</small>`
          }`,
        ] as const
      ),
      [
        "Definition",
        `generation ${one.generation}${one.transactional ? ", transactional" : ""}${
          one.filter === null ? "" : ", filtered"
        }`,
      ],
    ])
  }
<h2 class="hidden">What it waits for</h2>${
    reasonList(ofConsumer(view, one), "Nothing holds it up.")
  }
<div class="acts">${
    one.pausedAt === null
      ? act(view, "pause", { consumer }, button("Pause"))
      : act(view, "resume", { consumer }, button("Resume"))
  }${
    one.waiting === 0
      ? ""
      : act(view, "retry", { consumer, all: 1, kind: "waiting" }, button("Try all that wait now"))
  }</div>`;
}

function charts(view: View, consumer: string): Html {
  const samples = view.history.of(consumer);
  const rates = samples.slice(1).map(({ at, handled }, i) => {
    const before = samples[i]!;
    return { at, value: (handled - before.handled) * 1000 / Math.max(1, at - before.at) };
  });
  return htm`<div class="cols"><section><h2>Lag</h2>${
    chart("Lag", lagOf(view, consumer), seconds, { width: 600, height: 120 })
  }</section><section><h2>Handled in a second</h2>${
    chart("Handled in a second", rates, (each) => `${rate(each)} / s`, { width: 600, height: 120 })
  }</section></div>`;
}

/** Forms that show first what they would do. */
function moves(view: View, one: ConsumerStatus): Html {
  if (!view.mayAct) return htm``;
  const { consumer, partitions } = one;
  const box = (title: string, form: Html) =>
    htm`<section class="tile"><h3>${title}</h3>${form}</section>`;
  return section(
    "Change",
    htm`<div class="tiles">${
      box(
        "Seek",
        htm`<form action="${view.to("/seek")}">${
          hidden({ name: consumer })
        }<label>Go on at: an id, a time, beginning or now<input name="to" required placeholder="2026-11-21T10:00"></label>${
          button("Show what it would do")
        }</form>`,
      )
    }${
      box(
        "Replay",
        htm`<form action="${view.to("/replay")}">${
          hidden({ name: consumer })
        }<label>From: an id or a time<input name="from" required></label><label>To, or empty for the end<input name="to"></label>${
          button("Show what it would do")
        }</form>`,
      )
    }${
      box(
        "Partitions",
        act(
          view,
          "partitions",
          { consumer },
          htm`<label>How many: 1 to 1,024<input name="partitions" type="number" min="1" max="1024" value="${partitions}"></label>${
            button("Change")
          }`,
          "",
        ),
      )
    }${
      box(
        "Remove",
        act(
          view,
          "remove",
          { consumer },
          htm`<label>Type its name<input name="typed" required autocomplete="off"></label>${
            button("Remove", "danger")
          }`,
          "",
        ),
      )
    }</div>`,
  );
}
