/**
 * The pieces that screens are built of.
 *
 * @module
 */

import type { ConsumerStatus } from "../operate/consumer_status.ts";
import { durationText, numberText } from "../show.ts";
import { address, htm, type Html, type Part } from "./html.ts";

export { bytesText as bytes, countText, durationText, numberText } from "../show.ts";

/** How something is. */
export type Tone = "good" | "warn" | "bad" | "calm";

/** A word with a colour; the word says it all, the colour helps. */
export function badge(tone: Tone, words: string): Html {
  return htm`<span class="badge ${tone}">${words}</span>`;
}

/** When something was or will be: the browser turns it into "3 s ago". */
export function when(time: Date | null, never = "never"): Html {
  if (time === null) return htm`<span class="dim">${never}</span>`;
  const text = time.toISOString();
  return htm`<time datetime="${text}" title="${text}">${
    text.slice(0, 19).replace("T", " ")
  }</time>`;
}

/** A number; a plus says that counting stopped there. */
export function count(value: number, capped = false): Html {
  return htm`<span class="${value === 0 ? "num dim" : "num"}">${numberText(value)}${
    capped ? "+" : ""
  }</span>`;
}

/** A duration in seconds. */
export function seconds(value: number): string {
  return value < 0.05 ? "0 s" : durationText(value * 1000);
}

/** The age of the oldest notification that a consumer has not finished with, in seconds. */
export function lag({ lagSeconds, waitingSeconds }: ConsumerStatus): number {
  return Math.max(lagSeconds, waitingSeconds);
}

/** A rate: `0.3`, `12`, `1,200`. */
export function rate(value: number): string {
  return value >= 9.95 || value === 0 ? numberText(Math.round(value)) : value.toFixed(1);
}

/** A name as data: it never runs into the text around it. */
export function name(text: string): Html {
  return htm`<bdi class="name">${text}</bdi>`;
}

/** A key or another short value; a dash for null. */
export function value(text: string | null): Html {
  return text === null ? htm`<span class="dim">-</span>` : htm`<bdi class="mono">${text}</bdi>`;
}

/** A row of a table: cells in the order of the heads. */
export interface Row {
  /** What identifies the row while others come and go. */
  readonly key: string | number;
  readonly cells: readonly Part[];
  readonly tone?: Tone | undefined;
}

/**
 * A table. On a narrow screen each row becomes a card, and each cell is labelled with its head. A
 * head that begins with `#` is of numbers.
 */
export function table(caption: string, heads: readonly string[], rows: readonly Row[]): Html {
  const numeric = heads.map((head) => head.startsWith("#"));
  const names = heads.map((head) => head.replace(/^#/, ""));
  const cell = (i: number) => numeric[i] ? "n" : "";
  return htm`
    <table>
      <caption class="hidden">${caption}</caption>
      <thead>
        <tr>${
    names.map((head, i) =>
      htm`<th scope="col" class="${cell(i)}">${
        head === "" ? htm`<span class="hidden">acts</span>` : head
      }</th>`
    )
  }</tr>
      </thead>
      <tbody>${
    rows.map(({ key, cells, tone }) =>
      htm`<tr data-key="${key}" class="${tone ?? ""}">${
        cells.map((part, i) =>
          htm`
              <td data-label="${names[i]}" class="${cell(i)}">
                <div>${part}</div>
              </td>
            `
        )
      }</tr>`
    )
  }</tbody>
    </table>
  `;
}

/** What stands where a table would be empty. */
export function empty(words: Part): Html {
  return htm`<p class="empty">${words}</p>`;
}

/** Facts, each with its name. */
export function facts(rows: readonly (readonly [string, Part])[]): Html {
  return htm`<dl>${
    rows.map(([term, part]) =>
      htm`
        <div>
          <dt>${term}</dt>
          <dd>${part}</dd>
        </div>
      `
    )
  }</dl>`;
}

/** A tile: one number to look at, and what it means. */
export function tile(given: {
  readonly title: string;
  readonly value: Part;
  readonly unit?: string;
  readonly note?: Part;
  readonly tone?: Tone;
  readonly chart?: Part;
}): Html {
  return htm`<section class="tile ${given.tone ?? ""}"><h2>${given.title}</h2>
<p class="big">${given.value}${
    given.unit === undefined ? "" : htm`
      <small>${given.unit}</small>
    `
  }</p>${given.chart ?? ""}<p class="note">${given.note ?? ""}</p></section>`;
}

/** A section of a screen. */
export function section(title: string, body: Part, aside: Part = ""): Html {
  return htm`<section class="block"><header><h2>${title}</h2>${aside}</header>${body}</section>`;
}

/** A link within the dashboard. */
export function link(
  path: string,
  query: Readonly<Record<string, string | number | undefined>>,
  words: Part,
  kind = "",
): Html {
  return htm`<a class="${kind}" href="${address(path, query)}">${words}</a>`;
}

/** A command to copy. */
export function command(text: string): Html {
  return htm`
    <span
      class="copy"><code>${text}</code><button type="button" class="quiet" data-copy="${text}">Copy</button></span>
  `;
}
