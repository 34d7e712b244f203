/**
 * Options for delayed notifications and for dedupe keys.
 *
 * @module
 */

import { bad, knownOptions, show, text } from "../check.ts";
import { type Duration, requiredMs, wanted } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { wordOf } from "./payload.ts";

/** The maximum delay, and the maximum lifetime of a dedupe key, in ms: 3,650 days. */
const LONGEST = 315_360_000_000;
/** The default lifetime of a dedupe key, in ms. */
const DAY = 86_400_000;

/**
 * A dedupe key: a key of the publisher's own choice. Publishing twice under one key publishes once.
 */
export interface DedupeOptions {
  /**
   * The key, 1 to 200 characters. A number is stored as its digits. It belongs to the channel: the same text on another channel is
   * another key.
   */
  readonly key: string | number | bigint;
  /**
   * How long the key stays taken, counted from the first call that publishes under it: a
   * {@linkcode Duration} of more than 0, at most 3,650 days (10 years).
   * @default {86400000}
   */
  readonly within?: Duration;
}

/** When to deliver a notification, and whether to publish it only once. */
export interface LaterOptions {
  /**
   * Deliver the notification at the earliest this long after the call, by the server's clock: a
   * {@linkcode Duration} of 0 to 3,650 days (10 years).
   */
  readonly delay?: Duration;
  /**
   * Deliver the notification at the earliest at this time, at most 10 years ahead. A time in the
   * past is due at once.
   */
  readonly deliverAt?: Date;
  /**
   * Publish nothing if a notification was published on this channel under the same dedupe key
   * within the last day. Give `{ key, within }` for another lifetime of the key.
   */
  readonly dedupe?: string | number | bigint | DedupeOptions;
}

/** The names of the options in {@linkcode LaterOptions}. */
export const laterOptions = ["delay", "deliverAt", "dedupe"] as const;

/** Whether a notification needs hark.notify_each, because it is delayed or has a dedupe key. */
export function isForLater(options: LaterOptions): boolean {
  return laterOptions.some((name) => options[name] !== undefined);
}

/**
 * The fields of hark.notify_each for these options, as JSON text. Each field begins with a comma.
 */
export function laterText({ delay, deliverAt, dedupe }: LaterOptions): string {
  if (delay !== undefined && deliverAt !== undefined) {
    throw new HarkError(
      "BAD_OPTION",
      `both delay (${show(delay)}) and deliverAt (${show(deliverAt)}) are given`,
      { remedy: "Give only one of them." },
    );
  }
  return (delay === undefined ? "" : `,"delay_ms":${delayChecked(delay)}`) +
    (deliverAt === undefined ? "" : `,"deliver_at":"${timeText(deliverAt)}"`) +
    (dedupe === undefined ? "" : dedupeText(dedupe));
}

function delayChecked(delay: Duration): number {
  const bounds = { least: 0, most: LONGEST, fractions: true };
  if (typeof delay === "number" && Number.isFinite(delay) && delay > LONGEST) {
    bad(
      "delay",
      delay,
      `Give ${wanted(bounds)}; for a point in time, give deliverAt as a Date.`,
    );
  }
  return requiredMs("delay", delay, bounds);
}

function timeText(time: unknown): string {
  if (!(time instanceof Date) || Number.isNaN(time.getTime())) {
    bad("deliverAt", time, "Give a valid Date.");
  }
  if (time.getTime() > Date.now() + LONGEST) {
    bad("deliverAt", time.toISOString(), "Give a time within 10 years.");
  }
  // PostgreSQL cannot read a year before 1 in ISO 8601. Every time in the past is due at once, so
  // the epoch serves as well.
  return new Date(Math.max(0, time.getTime())).toISOString();
}

function dedupeText(dedupe: unknown): string {
  const given = typeof dedupe === "object" ? dedupe as DedupeOptions : { key: dedupe as string };
  if (given === null || typeof given !== "object" || Array.isArray(given)) {
    bad("dedupe", dedupe, "Give a key, or { key, within }.");
  }
  knownOptions("dedupe", given, ["key", "within"]);
  const { within = DAY } = given;
  const key = wordOf(given.key);
  const length = key === undefined ? 0 : key.length > 400 ? key.length : [...key].length;
  if (key === undefined || length < 1 || length > 200) {
    bad("the dedupe key", given.key, "Give text of 1 to 200 characters, a bigint or a number.");
  }
  const lifetime = requiredMs("within", within, {
    least: Number.MIN_VALUE,
    most: LONGEST,
    fractions: true,
  });
  // An interval holds whole microseconds: anything shorter would become zero, which is refused.
  return `,"dedupe_key":${JSON.stringify(text("the dedupe key", key, "BAD_OPTION"))}` +
    `,"within_ms":${Math.max(lifetime, 0.001)}`;
}
