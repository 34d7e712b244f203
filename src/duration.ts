/**
 * Durations: how long something takes, waits or is kept.
 *
 * @module
 */

import { bad } from "./check.ts";

/**
 * A duration: a number of milliseconds, or text of numbers with units, such as `"250ms"`, `"10s"`,
 * `"1.5h"`, `"1h30m"` or `"30d"`. The units are `ms`, `s`, `m` (minutes), `h`, `d` (24 hours) and
 * `w` (7 days), each at most once, the largest first. Text without a unit is refused, except `"0"`.
 */
export type Duration = number | string;

/** The units, the largest first, each in milliseconds. */
const units: readonly (readonly [name: string, size: number])[] = [
  ["w", 604_800_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];

const form = new RegExp(`^${units.map(([name]) => `(?:(\\d+(?:\\.\\d+)?)${name})?`).join("")}$`);

/** Reads text such as `1h30m` as milliseconds. Undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const amounts = text === "" ? null : text === "0" ? [] : form.exec(text);
  if (amounts === null) return undefined;
  const ms = units.reduce((sum, [, size], i) => sum + Number(amounts[i + 1] ?? 0) * size, 0);
  // 0.1s is 100 ms, not 100.00000000000001. Beyond 11 days there is no room for as many digits.
  const exact = ms > 1e9 ? Math.round(ms) : Math.round(ms * 1e6) / 1e6;
  return Number.isFinite(exact) ? exact : undefined;
}

/** Writes milliseconds as text that {@linkcode parseDuration} reads, such as `1h30m`. */
export function formatDuration(ms: number): string {
  const whole = Math.trunc(ms);
  let rest = whole;
  let text = "";
  // Weeks are left out: 30d is easier to read than 4w2d.
  for (const [name, size] of units.slice(1, -1)) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${name}`;
    rest -= count * size;
  }
  const left = Math.round((ms - whole + rest) * 1e6) / 1e6;
  return left > 0 || text === "" ? `${text}${left}ms` : text;
}

/** The bounds of a duration, in milliseconds. */
export interface DurationBounds {
  readonly least: number;
  readonly most: number;
  /** Whether fractions of a millisecond are allowed. @default {false} */
  readonly fractions?: boolean;
}

/** A year and a day at most: longer than any wait between two attempts makes sense. */
export const aYear = 31_622_400_000;
/** The longest wait of a timer and of PostgreSQL's settings, rounded: about 23 days. */
export const longestTimer = 2_000_000_000;
/** A day. */
export const aDay = 86_400_000;
/** An age of notifications: up to 100,000 days, about 274 years. */
export const ageBounds: DurationBounds = { least: 0, most: 100_000 * aDay, fractions: true };
/** How long notifications are kept: up to 100,000 days. */
export const keepBounds: DurationBounds = { least: 1, most: 100_000 * aDay };

/**
 * Checks a duration within bounds. Returns it in milliseconds, or the default if none is given.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function durationMs<T extends number | undefined>(
  name: string,
  value: Duration | undefined,
  otherwise: T,
  bounds: DurationBounds,
): number | T {
  return value === undefined ? otherwise : requiredMs(name, value, bounds);
}

/**
 * Checks a duration that has no default. Returns it in milliseconds.
 *
 * @param more What else may be given, for the remedy.
 * @throws {HarkError} `BAD_OPTION`.
 */
export function requiredMs(
  name: string,
  value: Duration | undefined,
  bounds: DurationBounds,
  more?: string,
): number {
  const ms = typeof value === "string" ? parseDuration(value) : value;
  const { least, most, fractions = false } = bounds;
  if (
    typeof ms === "number" && ms >= least && ms <= most && (fractions || Number.isInteger(ms))
  ) {
    return ms;
  }
  bad(name, value, `Give ${wanted(bounds)}${more === undefined ? "" : `, ${more}`}.`);
}

/** What a duration within bounds looks like, for messages. */
export function wanted({ least, most, fractions = false }: DurationBounds): string {
  const shown = (ms: number) => ms < 1000 ? String(ms) : `${ms} (${formatDuration(ms)})`;
  const bounds = least > 0 && least < 0.001
    ? `, more than 0 and at most ${shown(most)}`
    : ` from ${shown(least)} to ${shown(most)}`;
  return `${fractions ? "" : "whole "}milliseconds${bounds}, or text such as "250ms", "10s", ` +
    '"1h30m" or "30d"';
}
