/**
 * The log: the newest as they come, or any other part of it.
 *
 * @module
 */

import { HarkError } from "../../errors.ts";
import { parseDigits, parseExact } from "../../exact_json.ts";
import { given } from "../../given.ts";
import {
  type LogFilter,
  type LoggedNotification,
  type NotificationsPage,
  readNotifications,
} from "../../operate/notifications.ts";
import { idOrTime } from "../acts.ts";
import { show } from "../../show.ts";
import { textField } from "../fields.ts";
import { htm, type Html } from "../html.ts";
import { toNotification } from "../links.ts";
import { bytes, command, empty, link, numberText, section, table, value, when } from "../parts.ts";
import { checkSearch, maySearch, redacted, searched, short, showsPayload } from "../payload.ts";
import { button, type Screen, type View } from "../view.ts";
import { shellWord } from "../../visible.ts";

const limit = 50;
/** How many notifications one page looks through: some 100 ms. */
const maxScanned = 20_000;

/** The log. */
export const log: Screen = {
  title: () => "Log",
  under: "/log",
  async regions(view) {
    checkSearch(view);
    const filter = filterOf(view.query);
    const before = Number(view.query.get("before")) || undefined;
    const page = await view.reading((tx) =>
      readNotifications(
        tx,
        { ...filter, limit, maxScanned, ...given({ before }) },
        parseDigits,
      )
    );
    return [
      { id: "filter", body: form(view) },
      { id: "log", body: list(view, page) },
      { id: "copy", body: copies(view, filter) },
    ];
  },
};

/** The filter that an address names. @throws {HarkError} `BAD_OPTION`. */
function filterOf(query: URLSearchParams): LogFilter {
  const field = (name: string) => query.get(name) || undefined;
  const [channel, key, search, contains] = ["channel", "key", "search", "contains"].map(field);
  const [from, to] = ["from", "to"].map((name) => {
    const text = field(name);
    return text === undefined ? undefined : idOrTime(name, text);
  });
  return given({
    channels: channel,
    key,
    search,
    contains: contains === undefined ? undefined : parsed(contains),
    from,
    to,
  });
}

function parsed(text: string): unknown {
  try {
    return parseExact(text);
  } catch (error) {
    throw new HarkError("BAD_OPTION", `contains is ${show(text)}, which is not JSON`, {
      cause: error,
      remedy: 'Write JSON, such as {"city":"Bern"}.',
    });
  }
}

const fields: readonly (readonly [name: string, words: string, hint: string])[] = [
  ["channel", "Channel", "orders"],
  ["key", "Key", "customer-42"],
  ["search", "Payload has the text", "Bern"],
  ["contains", "Payload contains the JSON", '{"city":"Bern"}'],
  ["from", "From: an id or a time", "2026-11-21T10:00Z"],
  ["to", "To: an id or a time", ""],
];

function form(view: View): Html {
  return htm`<form class="filters" action="${view.to("/log")}">${
    fields.filter(([name]) => maySearch(view) || !searched.includes(name)).map((
      [name, words, hint],
    ) => textField(words, name, view.query.get(name) ?? "", htm` placeholder="${hint}"`))
  }<label class="tick"><input type="checkbox" name="show" value="payload"${
    showsPayload(view) ? htm` checked` : ""
  }>Show payloads</label>${button("Find", "primary")}${
    link(view.to("/log"), {}, "Clear", "button")
  }</form>`;
}

function list(view: View, page: NotificationsPage): Html {
  const shown = showsPayload(view);
  const found = page.notifications;
  const looked = `Looked at ${numberText(page.looked)}, down to id ${page.lookedThrough}.`;
  const query = Object.fromEntries(view.query);
  const more = page.more
    ? link(view.to("/log"), { ...query, before: page.lookedThrough }, "Older", "button")
    : "";
  if (found.length === 0) {
    return htm`${empty(`Nothing matches. ${looked}`)}<p>${more}</p>`;
  }
  return htm`${
    table(
      "Notifications",
      ["Id", "Published", "Channel", "Key", "#Size", ...shown ? ["Payload"] : []],
      found.map((one) => {
        const { key, payload } = redacted(view, one);
        return {
          key: one.id,
          cells: [
            toNotification(view, one.id, String(one.id)),
            when(one.createdAt),
            link(
              view.to("/log"),
              { ...query, before: undefined, channel: one.channel },
              htm`<bdi>${one.channel}</bdi>`,
            ),
            key === null || !maySearch(view)
              ? value(key)
              : link(view.to("/log"), { ...query, before: undefined, key }, value(key)),
            bytes(one.bytes),
            ...shown ? [shownPayload(one, payload)] : [],
          ],
        };
      }),
    )
  }<p class="line"><small>${looked}${page.more ? "" : " That is all."}</small> ${more}</p>`;
}

function shownPayload({ problem }: LoggedNotification, payload: unknown): Html {
  return problem === null
    ? htm`<bdi class="mono">${short(payload)}</bdi>`
    : htm`<span class="error-text">${problem}</span>`;
}

/** The same by the command line and by SQL. */
function copies(view: View, filter: LogFilter): Html {
  const options = fields.filter(([name]) => view.query.get(name)).map(([name]) => {
    const place = name === "from" || name === "to" ? filter[name] : undefined;
    const text = place instanceof Date ? place.toISOString() : shellWord(view.query.get(name)!);
    return name === "channel" ? ` ${text}` : ` --${name} ${text}`;
  }).join("");
  const literal = (text: unknown) => `'${String(text).replaceAll("'", "''")}'`;
  const [from, to] = [filter.from, filter.to].map((place) =>
    place instanceof Date ? literal(place.toISOString()) : place
  );
  const args = [
    filter.channels === undefined ? "" : `channels => array[${literal(filter.channels)}]`,
    filter.key === undefined ? "" : `key => ${literal(filter.key)}`,
    filter.search === undefined ? "" : `search => ${literal(filter.search)}`,
    filter.contains === undefined ? "" : `contains => ${literal(JSON.stringify(filter.contains))}`,
    from === undefined ? "" : `${filter.from instanceof Date ? "from_time" : "from_id"} => ${from}`,
    to === undefined ? "" : `${filter.to instanceof Date ? "to_time" : "to_id"} => ${to}`,
  ].filter((part) => part !== "");
  return section(
    "The same elsewhere",
    htm`<p>${command(`hark log list${options}`)}</p><p>${
      command(`select * from hark.notifications(${args.join(", ")})`)
    }</p>`,
  );
}
