/**
 * The first screen: is everything all right, and if not, what to do.
 *
 * @module
 */

import { chart } from "../chart.ts";
import { htm, type Html } from "../html.ts";
import { bytes, countText, lag, link, numberText, rate, seconds, tile, when } from "../parts.ts";
import { type Problem, problemList, problems } from "../problems.ts";
import type { Screen, View } from "../view.ts";

/** The overview. */
export const overview: Screen = {
  title: () => "Overview",
  under: "/",
  regions(view) {
    const found = problems(view.look, view.history);
    return [
      { id: "state", body: state(view, found) },
      { id: "tiles", body: tiles(view) },
    ];
  },
};

function state(view: View, found: readonly Problem[]): Html {
  const urgent = found.filter(({ level }) => level !== "note");
  const { consumers } = view.look.status;
  const bad = found.some(({ level }) => level === "error");
  const tone = bad ? "bad" : urgent.length > 0 ? "warn" : "good";
  const head = urgent.length > 0
    ? `${countText(urgent.length, "thing")} ${urgent.length === 1 ? "needs" : "need"} attention`
    : consumers.length === 0
    ? "All is well, and no consumer is registered yet"
    : "Everything flows";
  const furthest = consumers.reduce<typeof consumers[number] | undefined>(
    (a, b) => a === undefined || lag(b) > lag(a) ? b : a,
    undefined,
  );
  const note = furthest === undefined
    ? htm`Start one: <code>hark listen consumers/</code>`
    : lag(furthest) < 1
    ? htm`${countText(consumers.length, "consumer")}, all up to date.`
    : htm`${countText(consumers.length, "consumer")}. The furthest behind is ${
      link(view.to("/consumer"), { name: furthest.consumer }, furthest.consumer)
    }: ${seconds(lag(furthest))}.`;
  return htm`
    <div class="state ${tone}">
      <h1>${head}</h1>
      <p>${note}</p>
    </div>${found.length === 0 ? "" : problemList(view, found)}
  `;
}

function tiles(view: View): Html {
  const { look, history } = view;
  const { consumers, log, delayed, warnings } = look.status;
  const { sessions, queue, polling, connections, mostConnections } = look.facts;
  const rates = history.rates();
  const worst = Math.max(0, ...consumers.map(lag));
  const sum = (of: (one: typeof consumers[number]) => number) =>
    consumers.reduce((total, one) => total + of(one), 0);
  const dead = sum((one) => one.dead);
  const waiting = sum((one) => one.waiting);
  const oldest = sessions[0];
  const held = warnings[0];
  const workers = sum((one) => one.workers);
  return htm`
    <div
      class="tiles">${
    tile({
      title: "Published",
      value: rate(look.publishedPerSecond),
      unit: "/ s",
      chart: chart("Published in a second", look.pace, (value) => `${rate(value)} / s`),
      note: "the last 30 minutes",
    })
  }${
    tile({
      title: "Handled",
      value: rate(rates.at(-1)?.value ?? 0),
      unit: "/ s",
      chart: chart("Handled in a second", rates, (value) => `${rate(value)} / s`),
      note: `by ${countText(workers, "worker")}, since the page is open`,
    })
  }${
    tile({
      title: "Worst lag",
      value: seconds(worst),
      tone: worst > 60 ? "warn" : "calm",
      chart: chart(
        "Worst lag",
        history.all((samples) => Math.max(...samples.map((one) => one.lag))),
        seconds,
      ),
      note: "age of the oldest that is not handled",
    })
  }${
    tile({
      title: "Dead letters",
      value: link(view.to("/dead"), {}, numberText(dead)),
      tone: dead > 0 ? "bad" : "calm",
      note: dead === 0 ? "nothing was given up" : "given up, kept with their errors",
    })
  }${
    tile({
      title: "Waiting for a retry",
      value: numberText(waiting),
      tone: waiting > 0 ? "warn" : "calm",
      note: "failed, or behind a failed one of their key",
    })
  }${
    tile({
      title: "Not due yet",
      value: link(
        view.to("/later"),
        {},
        `${numberText(delayed.count)}${delayed.capped ? "+" : ""}`,
      ),
      note: delayed.nextAt === null ? "nothing is delayed" : htm`the next ${when(delayed.nextAt)}`,
    })
  }${
    tile({
      title: "Log",
      value: bytes(log.bytes),
      note: htm`${log.exact ? "" : "about "}${numberText(log.rows)} notifications`,
    })
  }${
    tile({
      title: "Held back from cleaning",
      value: held === undefined
        ? "nothing"
        : link(view.to("/consumer"), { name: held.consumer }, held.consumer),
      tone: held === undefined ? "calm" : "warn",
      note: held === undefined ? "cleaning keeps up" : htm`since ${when(held.oldest)}`,
    })
  }${
    tile({
      title: "Workers that only poll",
      value: numberText(polling.length),
      tone: polling.length > 0 ? "warn" : "calm",
      note: `NOTIFY queue ${(queue * 100).toFixed(queue < 0.001 ? 0 : 1)} % full`,
    })
  }${
    tile({
      title: "Oldest open transaction",
      value: oldest === undefined ? "none" : seconds(oldest.age / 1000),
      tone: (oldest?.age ?? 0) > 300_000 ? "warn" : "calm",
      note: oldest === undefined
        ? `${connections} of ${mostConnections} connections`
        : `session ${oldest.id}, ${oldest.state}`,
    })
  }</div>
  `;
}
