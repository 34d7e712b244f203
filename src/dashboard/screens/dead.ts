/**
 * Dead letters: by their errors, and one by one.
 *
 * @module
 */

import { given } from "../../given.ts";
import { type DeadGroup, deadGroups } from "../../operate/dead_groups.ts";
import { deadLetters, type DeadNotification } from "../../operate/dead.ts";
import { hidden, textField } from "../fields.ts";
import { htm, type Html, type Part } from "../html.ts";
import { toConsumer, toNotification } from "../links.ts";
import { count, empty, link, name, section, table, value, when } from "../parts.ts";
import { checkSearch, maySearch, redacted } from "../payload.ts";
import { act, button, type Screen, type View } from "../view.ts";

const limit = 50;
/** How many dead letters are grouped by their errors. Of 20,000 with different errors it took 80 ms of CPU time. */
const maxScanned = 20_000;

/** The dead letters. */
export const dead: Screen = {
  title: () => "Dead letters",
  under: "/dead",
  async regions(view) {
    const consumer = view.query.get("consumer") || undefined;
    checkSearch(view);
    const filter = filterOf(view.query);
    const after = Number(view.query.get("after")) || undefined;
    const [groups, letters] = await view.reading(async (tx) =>
      [
        await deadGroups(tx, consumer, maxScanned),
        consumer === undefined ? [] : await deadLetters(tx, {
          consumer,
          ...filter,
          limit,
          contents: false,
          ...given({ after }),
        }),
      ] as const
    );
    return [
      { id: "groups", body: section("By error", groupTable(view, groups, consumer)) },
      ...consumer === undefined
        ? []
        : [{ id: "letters", body: letterForm(view, consumer, filter, letters) }],
    ];
  },
};

/** The conditions of an address. */
export function filterOf(
  query: URLSearchParams,
): { error?: string; channel?: string; key?: string } {
  return Object.fromEntries(
    ["error", "channel", "key"].map((name) => [name, query.get(name) ?? ""]).filter(([, text]) =>
      text !== ""
    ),
  );
}

function groupTable(view: View, groups: readonly DeadGroup[], consumer: string | undefined): Html {
  if (groups.length === 0) return empty("Nothing was given up.");
  return htm`${
    table(
      "Dead letters by error",
      ["Consumer", "Error begins", "#Dead letters", "First", "Last", ""],
      groups.map((one) => ({
        key: `${one.consumer}/${one.error}`,
        cells: [
          toConsumer(view, one.consumer),
          htm`<span class="error-text">${one.error ?? "without a message"}</span>`,
          count(one.count, one.capped),
          when(one.firstAt),
          when(one.lastAt),
          htm`<div class="acts">${
            link(
              view.to("/dead"),
              { consumer: one.consumer, error: one.error ?? undefined },
              "Show",
              "button",
            )
          }${one.error === null ? "" : sure(view, one.consumer, { error: one.error })}</div>`,
        ],
      })),
    )
  }${consumer === undefined ? "" : htm`<p>${link(view.to("/dead"), {}, "All consumers")}</p>`}`;
}

/** Links to what retries and discards all that match, after a look at how many there are. */
function sure(view: View, consumer: string, filter: ReturnType<typeof filterOf>): Part {
  if (!view.mayAct) return "";
  const all = Object.keys(filter).length === 0 ? { all: 1 } : filter;
  return htm`${
    link(view.to("/sure"), { act: "retry", consumer, kind: "dead", ...all }, "Retry all…", "button")
  }${
    link(
      view.to("/sure"),
      { act: "discard", consumer, kind: "dead", ...all },
      "Discard all…",
      "button danger",
    )
  }`;
}

function letterForm(
  view: View,
  consumer: string,
  filter: ReturnType<typeof filterOf>,
  letters: readonly DeadNotification[],
): Html {
  const title = htm`Of ${name(consumer)}${
    filter.error === undefined ? "" : htm`, with the error <q>${filter.error}</q>`
  }`;
  const aside = letters.length === 0
    ? ""
    : htm`<div class="acts">${sure(view, consumer, filter)}</div>`;
  const find = htm`<form class="filters" action="${view.to("/dead")}">${hidden({ consumer })}${
    [
      ["error", "Error has the text"] as const,
      ["channel", "Channel"] as const,
      ...maySearch(view) ? [["key", "Key"] as const] : [],
    ].map(([field, words]) => textField(words, field, view.query.get(field) ?? ""))
  }${button("Find")}</form>`;
  const list = letters.length === 0
    ? empty("No dead letter matches.")
    : htm`${rows(view, consumer, letters)}${
      letters.length < limit ? "" : htm`<p>${
        link(
          view.to("/dead"),
          { consumer, ...filter, after: letters.at(-1)!.id },
          "More",
          "button",
        )
      }</p>`
    }`;
  return htm`<section class="block"><header><h2>${title}</h2>${aside}</header>${find}${
    view.mayAct && letters.length > 0
      ? act(
        view,
        "retry",
        { consumer, kind: "dead" },
        htm`${list}<div class="acts"><label class="tick"><input type="checkbox" data-all="id">All shown</label>${
          button("Retry the chosen", "primary")
        }<button name="act" value="discard" class="danger">Discard the chosen</button></div>`,
        "block",
      )
      : list
  }</section>`;
}

function rows(view: View, consumer: string, letters: readonly DeadNotification[]): Html {
  return table(
    "Dead letters",
    ["Id", "Channel", "Key", "#Attempts", "Given up", "Error", ""],
    letters.map((one) => {
      const { key } = redacted(view, one);
      return {
        key: one.id,
        cells: [
          view.mayAct
            ? htm`<label class="tick"><input type="checkbox" name="id" value="${one.id}" aria-label="Choose ${one.id}">${
              toNotification(view, one.id, String(one.id))
            }</label>`
            : toNotification(view, one.id, String(one.id)),
          htm`<bdi>${one.channel ?? "-"}</bdi>`,
          value(key),
          one.attempts,
          when(one.diedAt),
          htm`<span class="error-text">${one.error}</span>`,
          view.mayAct ? link(view.to("/anew"), { consumer, id: one.id }, "Edit…", "button") : "",
        ],
      };
    }),
  );
}
