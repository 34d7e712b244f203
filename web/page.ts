/**
 * What pages do in the browser: they stay as the server says, and their times go on. Without it pages
 * work too, and are as they were when they were loaded.
 *
 * @module
 */

/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

import { readout } from "./charts.ts";
import { morph } from "./morph.ts";
import { setClock, writeTimes } from "./times.ts";

const source = document.body.dataset.live ?? "";
const place = document.getElementById("live");
const words = place?.querySelector(".words");
const button = place?.querySelector("button") ?? undefined;
let events: EventSource | undefined;
let isPaused = false;
/** How long to wait after an answer that is no stream, in milliseconds. */
const waits = { first: 2000, last: 60_000 };
let wait = waits.first;

/** Says how current the page is. */
function say(state: "on" | "off" | "lost", text: string): void {
  if (place === null || !words) return;
  place.className = state;
  words.textContent = text;
}

function open(): void {
  if (source === "" || events !== undefined || isPaused || document.hidden) return;
  events = new EventSource(source);
  events.addEventListener("look", ({ data }) => {
    const { at, regions } = JSON.parse(data) as { at: number; regions: [string, string][] };
    setClock(at);
    wait = waits.first;
    for (const [id, text] of regions) {
      const region = document.getElementById(id);
      if (region !== null) morph(region, text);
    }
    writeTimes();
    say("on", "live");
  });
  events.addEventListener("trouble", ({ data }) => say("lost", JSON.parse(data).text));
  events.addEventListener("error", () => {
    if (events?.readyState !== EventSource.CLOSED) {
      say("lost", "no connection, trying again");
      return;
    }
    // The browser gives up at an answer that is no stream: a login that has ended, a proxy without a server.
    say("lost", "refused, trying again");
    close();
    setTimeout(open, wait);
    wait = Math.min(2 * wait, waits.last);
  });
}

function close(): void {
  events?.close();
  events = undefined;
}

/** A hidden page costs the database nothing. */
document.addEventListener("visibilitychange", () => document.hidden ? close() : open());

if (button !== undefined && source !== "") {
  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? "Go on" : "Hold";
    button.setAttribute("aria-pressed", String(isPaused));
    if (isPaused) {
      close();
      say("off", "held");
    } else open();
  });
}

document.addEventListener("click", (event) => {
  const copied = (event.target as Element).closest<HTMLElement>("[data-copy]");
  if (copied === null) return;
  navigator.clipboard.writeText(copied.dataset.copy ?? "").then(
    () => copied.textContent = "Copied",
    () => copied.textContent = "Not allowed",
  );
  setTimeout(() => copied.textContent = "Copy", 1500);
});

/** One box ticks all of its form. */
document.addEventListener("change", (event) => {
  const box = event.target as HTMLInputElement;
  if (box.dataset.all === undefined) return;
  for (
    const other of document.querySelectorAll<HTMLInputElement>(`input[name="${box.dataset.all}"]`)
  ) {
    other.checked = box.checked;
  }
});

writeTimes();
setInterval(writeTimes, 1000);
readout();
open();
