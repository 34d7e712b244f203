/**
 * Times as people say them, anew each second.
 *
 * @module
 */

/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

let ahead = 0;

/** Goes by the server's clock from now on, in ms since 1970. */
export function setClock(server: number): void {
  ahead = server - Date.now();
}

function told(ms: number): string {
  const [size, unit] = ms < 120e3
    ? [1e3, "s"] as const
    : ms < 7200e3
    ? [60e3, "min"] as const
    : ms < 1728e5
    ? [3600e3, "h"] as const
    : [864e5, "days"] as const;
  return `${Math.round(ms / size)} ${unit}`;
}

/** Writes all times of the page. */
export function writeTimes(): void {
  const now = Date.now() + ahead;
  for (const element of document.querySelectorAll("time[datetime]")) {
    const ms = Date.parse((element as HTMLTimeElement).dateTime) - now;
    const words = Math.abs(ms) < 1000 ? "now" : ms > 0 ? `in ${told(ms)}` : `${told(-ms)} ago`;
    if (element.textContent !== words) element.textContent = words;
  }
}
