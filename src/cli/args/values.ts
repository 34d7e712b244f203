/**
 * Durations, times and ids on the command line.
 *
 * @module
 */

import type { ValueParser } from "@optique/core/valueparser";
import { ageBounds, type DurationBounds, formatDuration, parseDuration } from "../../duration.ts";
import { isoTime } from "../../iso_time.ts";
import { kind, maybe } from "./options.ts";

/** A duration as the value of an option, in whole milliseconds. */
export function duration(
  option: `--${string}`,
  bounds: DurationBounds = { least: 0, most: Infinity },
): ValueParser<"sync", number> {
  return kind("DURATION", bounds.least, (input) => {
    const value = parseDuration(input);
    if (value !== undefined && value >= bounds.least && value <= bounds.most) {
      return Math.ceil(value);
    }
    const { least, most } = bounds;
    const limits = most === Infinity
      ? ""
      : least === 0
      ? `; at most ${formatDuration(most)}`
      : `; from ${formatDuration(least)} to ${formatDuration(most)}`;
    const unit = /^\d+(\.\d+)?$/.test(input) ? " A number needs its unit." : "";
    throw new Error(
      `${option} is ${JSON.stringify(input)}. ` +
        `Give 250ms, 10s, 5m, 2h or 1d, for example${limits}.${unit}`,
    );
  });
}

/** An option that takes a duration and may be left out. */
export function maybeDuration(
  name: `--${string}`,
  description: string,
  bounds?: DurationBounds,
) {
  return maybe(name, duration(name, bounds), description);
}

/** A time, or a duration that is counted back from now, which is an age. */
function timeOf(input: string): Date | undefined {
  const back = input === "0" ? undefined : parseDuration(input);
  if (back !== undefined && back > ageBounds.most) return undefined;
  return back === undefined ? isoTime(input) : new Date(Date.now() - back);
}

function idOf(input: string): number | undefined {
  const id = /^\d+$/.test(input) ? Number(input) : 0;
  return Number.isSafeInteger(id) && id > 0 ? id : undefined;
}

/** A kind of value of which `read` gives undefined for what it does not understand. */
function readBy<T>(
  metavar: Uppercase<string>,
  placeholder: T,
  read: (input: string) => T | undefined,
  wanted: string,
  shown: string = metavar,
): ValueParser<"sync", T> {
  return kind(metavar, placeholder, (input) => {
    const value = read(input);
    if (value !== undefined) return value;
    throw new Error(`${shown} is ${JSON.stringify(input)}. Give ${wanted}.`);
  });
}

const timeExample = "a time such as 2026-11-21T10:00:00Z, or 2h for two hours ago";
const idExample = "an id such as 42";

/** A time. */
export const time = readBy("TIME", new Date(0), timeOf, timeExample);

/** A time with its offset from UTC: of a time to come, people think in their own zone. */
export const exactTime = readBy(
  "TIME",
  new Date(0),
  (input) =>
    /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(input)
      ? timeOf(input)
      : undefined,
  "a time such as 2026-12-01T10:00:00Z",
  "--at",
);

/** The id of a notification. */
export const id = readBy("ID", 1, idOf, "the id of a notification, such as 42");

/** An id or a time. */
export const place = readBy<number | Date>(
  "PLACE",
  1,
  (input) => idOf(input) ?? timeOf(input),
  `${idExample}, ${timeExample}`,
);

/** A place to begin: one of the words, an id or a time. */
export function beginning<Word extends string>(
  metavar: Uppercase<string>,
  words: readonly Word[],
  shown: string = metavar,
): ValueParser<"sync", Word | { readonly id: number } | { readonly time: Date }> {
  return readBy<Word | { readonly id: number } | { readonly time: Date }>(
    metavar,
    words[0]!,
    (input) => {
      const word = words.find((one) => one === input);
      if (word !== undefined) return word;
      const [id, time] = [idOf(input), timeOf(input)];
      return id !== undefined ? { id } : time !== undefined ? { time } : undefined;
    },
    `${words.slice(0, 2).join(", ")}, ${idExample}, ${timeExample}`,
    shown,
  );
}
