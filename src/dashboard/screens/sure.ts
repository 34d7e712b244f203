/**
 * What an act would do, before it is done: retry and discard, seek, replay, and publishing anew.
 *
 * @module
 */

import { parseDigits } from "../../exact_json.ts";
import { given } from "../../given.ts";
import { countDeadLetters, readDeadLetters } from "../../operate/dead.ts";
import { previewReplay, previewSeek } from "../../operate/preview.ts";
import { idOrTime, placeOf } from "../acts.ts";
import { textField } from "../fields.ts";
import { htm, type Html, type Part } from "../html.ts";
import { command, countText, empty, link, name, numberText } from "../parts.ts";
import { jsonText, redacted } from "../payload.ts";
import { act, button, type Screen, type View } from "../view.ts";
import { filterOf } from "./dead.ts";

/** How far dead letters are counted. */
const most = 10_000;

/** How many characters of payload and headers a form may have. */
const mostEdited = 1_000_000;

function notAllowed(): Html {
  return empty("You may look, and not act.");
}

/** A question, and the button that answers it. */
function question(view: View, asked: Part, given: {
  readonly act: string;
  readonly fields: Readonly<Record<string, string | number | undefined>>;
  readonly words: string;
  readonly danger?: boolean;
  readonly back: string;
  readonly same?: string;
}): Html {
  return htm`<div class="stack"><p class="why">${asked}</p><div class="acts">${
    act(
      view,
      given.act,
      { ...given.fields, back: given.back },
      button(given.words, given.danger === true ? "danger" : "primary"),
    )
  }<a class="button" href="${view.to(given.back)}">Do nothing</a></div>${
    given.same === undefined
      ? ""
      : htm`<p><small>The same by the command line</small><br>${command(given.same)}</p>`
  }</div>`;
}

const back = (path: string, query: Readonly<Record<string, string>>) =>
  `${path}?${new URLSearchParams(query)}`;

/** Retry or discard all that match. */
export const sure: Screen = {
  title: (query) => query.get("act") === "discard" ? "Discard" : "Retry",
  under: "/dead",
  still: true,
  async regions(view) {
    if (!view.mayAct) return [{ id: "sure", body: notAllowed() }];
    const consumer = view.query.get("consumer") ?? "";
    const discards = view.query.get("act") === "discard";
    const filter = filterOf(view.query);
    const id = Number(view.query.get("id")) || undefined;
    const fields = {
      consumer,
      kind: view.query.get("kind") ?? undefined,
      id,
      all: view.query.get("all") ?? undefined,
      ...filter,
    };
    const found = id !== undefined
      ? 1
      : await view.reading((tx) => countDeadLetters(tx, consumer, filter, most + 1));
    const what = id !== undefined
      ? `notification ${id}`
      : found > most
      ? `more than ${numberText(most)} dead letters`
      : countText(found, "dead letter");
    const which = Object.entries(filter).map(([field, text]) => `${field} ${text}`).join(", ");
    const asked = htm`${discards ? "Give up for good" : "Try again at once"}: <b>${what}</b> of ${
      name(consumer)
    }${which === "" ? "" : htm`, by ${name(which)}`}. ${
      discards
        ? "The consumer will never handle them. What waits behind them goes on."
        : "Each starts with its first attempt. The order within a key stays."
    }`;
    return [{
      id: "sure",
      body: question(view, asked, {
        act: discards ? "discard" : "retry",
        fields,
        words: `${discards ? "Discard" : "Retry"} ${what}`,
        danger: discards,
        back: id === undefined
          ? back("/dead", { consumer })
          : back("/consumer", { name: consumer }),
      }),
    }];
  },
};

/** A seek, with what it would do. */
export const seek: Screen = {
  title: (query) => `Move ${query.get("name") ?? ""}`,
  under: "/consumers",
  still: true,
  async regions(view) {
    if (!view.mayAct) return [{ id: "sure", body: notAllowed() }];
    const consumer = view.query.get("name") ?? "";
    const to = view.query.get("to") ?? "";
    const { again, skipped, givenUp, capped } = await view.reading((tx) =>
      previewSeek(tx, consumer, placeOf(to))
    );
    const more = capped ? " or more" : "";
    const asked = htm`${name(consumer)} would begin at <b>${to}</b>. It will handle <b>${
      numberText(again)
    }${more}</b> again, and never see <b>${numberText(skipped)}${
      skipped > 0 ? more : ""
    }</b> that it has not handled. ${
      givenUp === 0 ? "" : `${countText(givenUp, "waiting notification")} become dead letters.`
    }`;
    return [{
      id: "sure",
      body: question(view, asked, {
        act: "seek",
        fields: { consumer, to },
        words: "Move it",
        danger: skipped + givenUp > 0,
        back: back("/consumer", { name: consumer }),
      }),
    }];
  },
};

/** A replay, with what it would do. */
export const replay: Screen = {
  title: (query) => `Replay to ${query.get("name") ?? ""}`,
  under: "/consumers",
  still: true,
  async regions(view) {
    if (!view.mayAct) return [{ id: "sure", body: notAllowed() }];
    const consumer = view.query.get("name") ?? "";
    const [from, to] = [view.query.get("from") ?? "", view.query.get("to") || undefined];
    const { again, unread, capped } = await view.reading((tx) =>
      previewReplay(tx, consumer, {
        from: idOrTime("from", from),
        ...given({ to: to === undefined ? undefined : idOrTime("to", to) }),
      })
    );
    const asked = htm`${name(consumer)} would handle <b>${numberText(again)}${
      capped ? " or more" : ""
    }</b> again, from ${from} to ${to ?? "the end of the log"}, beside new ones. ${
      unread === 0 ? "" : `${numberText(unread)} in the range come anyway, in their turn.`
    }`;
    return [{
      id: "sure",
      body: question(view, asked, {
        act: "replay",
        fields: { consumer, from, to },
        words: "Replay",
        back: back("/consumer", { name: consumer }),
      }),
    }];
  },
};

/** A dead letter to edit and publish anew. */
export const anew: Screen = {
  title: () => "Edit and publish anew",
  under: "/dead",
  still: true,
  async regions(view) {
    if (!view.mayAct) return [{ id: "sure", body: notAllowed() }];
    const consumer = view.query.get("consumer") ?? "";
    const id = Number(view.query.get("id"));
    const [letter] = await view.reading((tx) =>
      readDeadLetters(tx, { consumer, ids: [id] }, parseDigits)
    );
    if (letter === undefined || letter.channel === null) {
      return [{
        id: "sure",
        body: empty(
          htm`There is no such dead letter. ${link(view.to("/dead"), {}, "Dead letters")}`,
        ),
      }];
    }
    const { channel, key, payload, headers } = letter;
    const whole = JSON.stringify([key, payload, headers]);
    const shown = redacted(view, letter);
    if (JSON.stringify([shown.key, shown.payload, shown.headers]) !== whole) {
      return [{
        id: "sure",
        body: empty(
          "A part of it may not be shown here, so it cannot be published anew from here.",
        ),
      }];
    }
    const [payloadText, headersText] = [jsonText(payload), jsonText(headers)];
    if (payloadText.length + headersText.length > mostEdited) {
      return [{
        id: "sure",
        body: empty(
          htm`It is too large for a form: over ${
            numberText(mostEdited)
          } characters. Publish it by a program.`,
        ),
      }];
    }
    return [{
      id: "sure",
      body:
        htm`<p>All consumers of the channel get the new notification. The original stays: retry or discard it. <span class="error-text">${letter.error}</span></p>${
          act(
            view,
            "publish",
            { original: id, back: back("/dead", { consumer }) },
            htm`${textField("Channel", "channel", channel, " required")}${
              textField("Key", "key", key ?? "")
            }<label>Payload<textarea name="payload" required spellcheck="false">${payloadText}</textarea></label><label>Headers<textarea name="headers" spellcheck="false">${headersText}</textarea></label><div class="acts">${
              button("Publish", "primary")
            }<a class="button" href="${view.to(back("/dead", { consumer }))}">Do nothing</a></div>`,
            "stack",
          )
        }`,
    }];
  },
};
