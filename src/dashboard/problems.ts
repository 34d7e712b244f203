/**
 * What needs attention: what the doctor finds, and what consumers cannot get done.
 *
 * @module
 */

import type { History } from "./history.ts";
import { htm, type Html } from "./html.ts";
import type { Look } from "./look.ts";
import { countText, link, seconds } from "./parts.ts";
import { act, button, type View } from "./view.ts";

/** Something to attend to. */
export interface Problem {
  readonly code: string;
  readonly level: "error" | "warning" | "note";
  readonly problem: string;
  readonly remedy: string;
  readonly consumer?: string | undefined;
}

/** From this lag on, in seconds, a lag that grows is told. */
const grownLag = 10;

/** All of it, the worst first. */
export function problems(look: Look, history: History): Problem[] {
  const own: Problem[] = look.status.consumers.flatMap((one) => {
    const { consumer, failing, serving, lagSeconds } = one;
    const { lagPerSecond } = history.trend(consumer);
    const found: Problem[] = [];
    if (failing !== null) {
      found.push({
        code: "failing",
        level: "warning",
        problem: `"${consumer}" fails on ${countText(failing.count, "notification")}: ${
          failing.error ?? "without a message"
        }`,
        remedy: `It is tried again by itself. The first is notification ${failing.id}.`,
        consumer,
      });
    }
    if (serving && lagSeconds > grownLag && lagPerSecond > 0.1) {
      found.push({
        code: "lag",
        level: "warning",
        problem: `"${consumer}" is ${seconds(lagSeconds)} behind, and falls further behind`,
        remedy: "Start more workers or raise concurrency, or find out why its handler is slow.",
        consumer,
      });
    }
    return found;
  });
  const rank = { error: 0, warning: 1, note: 2 };
  return [...look.findings, ...own].sort((a, b) => rank[a.level] - rank[b.level]);
}

const pages: Readonly<Record<string, readonly [path: string, words: string]>> = {
  drift: ["/watches", "Watches"],
  delayed: ["/later", "Delayed"],
  inbox: ["/relays", "Inboxes"],
  trouble: ["/relays", "Relays"],
  endpoint: ["/relays", "Relays"],
  schedules: ["/later", "Schedules"],
  retention: ["/server", "Retention"],
  size: ["/server", "Server"],
};

/** What can be done about a problem from here. */
export function wayOut(view: View, { code, consumer }: Problem): Html {
  if (consumer !== undefined) {
    return htm`${
      code === "paused"
        ? act(view, "resume", { consumer }, button("Resume"))
        : code === "dead"
        ? link(view.to("/dead"), { consumer }, "Dead letters", "button")
        : ""
    }${link(view.to("/consumer"), { name: consumer }, "Look at it", "button")}`;
  }
  const page = pages[code];
  return page === undefined ? htm`` : link(view.to(page[0]), {}, page[1], "button");
}

/** A list of problems, each with its remedy. */
export function problemList(view: View, found: readonly Problem[]): Html {
  return htm`<ul class="problems">${
    found.map((one) =>
      htm`
        <li class="${one.level}" data-key="${one.code}/${one.consumer ?? ""}/${
        one.problem
          .replaceAll(/[\d.,]+/g, "")
      }">
          <div>
            <p>${sentence(one.problem)}</p>
            <p class="remedy">${one.remedy}</p>
          </div>
          <div class="acts">${wayOut(view, one)}</div>
        </li>
      `
    )
  }</ul>`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
