/**
 * All consumers.
 *
 * @module
 */

import { type ConsumerStatus, hasWork, sleepsWell } from "../../operate/consumer_status.ts";
import { chart } from "../chart.ts";
import { htm, type Html } from "../html.ts";
import { deadLetters, toConsumer } from "../links.ts";
import { badge, count, empty, lag, rate, seconds, table } from "../parts.ts";
import type { Screen, View } from "../view.ts";

/** The list of consumers. */
export const consumers: Screen = {
  title: () => "Consumers",
  under: "/consumers",
  regions: (view) => [{ id: "consumers", body: list(view) }],
};

function list(view: View): Html {
  const all = view.look.status.consumers;
  if (all.length === 0) {
    return empty(
      htm`No consumer is registered yet. Start one: <code>hark listen consumers/</code>`,
    );
  }
  return table(
    "Consumers",
    [
      "Consumer",
      "State",
      "#Lag",
      "Trend",
      "Last minutes",
      "#Unread",
      "#Waiting",
      "#Dead",
      "#Handled",
      "Served by",
    ],
    all.map((one) => ({
      key: one.consumer,
      tone: stateOf(one)[0],
      cells: [
        htm`${toConsumer(view, one.consumer, "name")}<small class="dim">${
          channelsText(one.channels)
        }</small>`,
        badge(...stateOf(one)),
        seconds(lag(one)),
        trendText(view, one),
        chart(`Lag of ${one.consumer}`, lagOf(view, one.consumer), seconds, {
          width: 120,
          height: 24,
          small: true,
        }),
        count(one.unread, one.unreadCapped),
        count(one.waiting),
        deadLetters(view, one.consumer, one.dead),
        rateOf(view, one),
        servedBy(one),
      ],
    })),
  );
}

/** The lag over the last minutes. */
export function lagOf(view: View, consumer: string) {
  return view.history.of(consumer).map(({ at, lag }) => ({ at, value: lag }));
}

function rateOf(view: View, { consumer }: ConsumerStatus): Html {
  const { perSecond } = view.history.trend(consumer);
  return perSecond === undefined ? htm`<span class="dim">-</span>` : htm`${rate(perSecond)} / s`;
}

/** The state in a word. */
export function stateOf(one: ConsumerStatus): ["good" | "warn" | "bad" | "calm", string] {
  if (one.pausedAt !== null) return ["warn", "paused"];
  if (one.halted.length > 0) return ["bad", "held up"];
  if (sleepsWell(one)) return ["good", "asleep"];
  if (!one.serving) {
    return hasWork(one) ? ["bad", "no worker"] : ["calm", "no worker"];
  }
  if (one.newer !== null) return ["warn", "needs a newer worker"];
  if (one.failing !== null) return ["warn", "failing"];
  if (one.lagSeconds > 10) return ["calm", "behind"];
  return ["good", "up to date"];
}

/** Whether the lag grows, and when it will be gone. */
export function trendText(view: View, one: ConsumerStatus): string {
  const { lagPerSecond, caughtUpIn, perSecond } = view.history.trend(one.consumer);
  if (perSecond === undefined || lag(one) < 2) return "steady";
  if (caughtUpIn !== undefined) return `caught up in ${seconds(caughtUpIn)}`;
  return lagPerSecond > 0.1 ? "growing" : "steady";
}

/** The channels, at most three. */
export function channelsText(channels: readonly string[]): string {
  const more = channels.length - 3;
  return channels.slice(0, 3).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Which workers serve it, in a few words. */
export function servedBy(one: ConsumerStatus): Html {
  const { serving, served, partitions, workers, standingBy, worker, owner } = one;
  if (!serving) {
    return htm`<span class="dim">${one.asleep === null ? "no worker" : "asleep"}</span>`;
  }
  const serve = workers - standingBy;
  return htm`<bdi>${serve === 1 ? worker ?? owner?.slice(0, 8) ?? "" : `${serve} workers`}</bdi>${
    served < partitions
      ? htm`
        <small>${served} of ${partitions} partitions</small>
      `
      : ""
  }${
    standingBy > 0
      ? htm`
        <small>${standingBy} standing by</small>
      `
      : ""
  }`;
}
