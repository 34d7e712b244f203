/**
 * The page around a screen.
 *
 * @module
 */

import { htm } from "./html.ts";
import type { Message } from "./messages.ts";
import type { Region, Screen, View } from "./view.ts";

/** The entries of the navigation. */
export const entries: readonly (readonly [path: string, words: string])[] = [
  ["/", "Overview"],
  ["/consumers", "Consumers"],
  ["/log", "Log"],
  ["/dead", "Dead letters"],
  ["/watches", "Watches"],
  ["/later", "Later"],
  ["/relays", "Relays"],
  ["/workers", "Workers"],
  ["/server", "Server"],
  ["/audit", "Audit"],
];

/** A whole page. `files` gives the address of a file that the browser loads. */
export function page(
  view: View,
  screen: Screen,
  regions: readonly Region[],
  files: (name: string) => string,
  message: Message | undefined,
): string {
  const title = screen.title(view.query);
  const body = htm`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta name="robots" content="noindex">
        <title>${title} · Hark</title>
        <link rel="icon" href="${files("icon.svg")}">
        <link rel="stylesheet" href="${files("page.css")}">
        <script type="module" src="${files("page.js")}"></script>
      </head>
      <body data-live="${
    screen.still === true ? "" : `${view.to("/live")}?page=${encodeURIComponent(view.here)}`
  }">
        <a class="skip" href="#main">Skip to the content</a>
        <header
          class="top"><a class="brand" href="${
    view.to(
      "/",
    )
  }"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12a7 7 0 1 1 14 0c0 3-2 4-3.500 5.500S14 21 11.500 21 8 19.500 8 18M9 12a3 3 0 1 1 6 0c0 2-2 2-2 4"/></svg>Hark</a>
    <nav aria-label="Screens"><ul>${
    entries.map(([path, words]) =>
      htm`<li><a href="${view.to(path)}"${
        path === screen.under
          ? htm`
            aria-current="page"
          `
          : ""
      }>${words}</a></li>`
    )
  }</ul></nav>
    <div class="who"><span>${view.visitor.name}</span><small>${
    view.mayAct ? "may act" : "looks only"
  }</small></div></header>
        <main id="main" tabindex="-1">
    <div class="bar">${title === "Overview" ? "" : htm`<h1>${title}</h1>`}<p id="live">${
    screen.still === true ? "" : htm`
      <span class="dot"></span><span class="words">as of ${
      view.look.at.toISOString().slice(
        11,
        19,
      )
    } UTC</span><button type="button"
        class="quiet" aria-pressed="false" hidden>Hold</button>
    `
  }</p></div>
    ${
    message === undefined
      ? ""
      : htm`<p class="message ${message.tone}" role="status">${message.text}</p>`
  }
    ${regions.map(({ id, body }) => htm`<div id="${id}" class="region">${body}</div>`)}
        </main>
      </body>
    </html>
  `;
  return body.text;
}
