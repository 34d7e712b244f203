/**
 * When a notification is delivered, and under which of the producer's own keys it is published once.
 *
 * @module
 */

import { bad, knownOptions, show, text } from "../check.ts";
import { HarkError } from "../errors.ts";

/** The longest delay, and the longest a dedupe key is kept, in ms: 3,650 days. */
const LONGEST = 315_360_000_000;
/** How long a dedupe key is kept unless said, in ms. */
const DAY = 86_400_000;

/** A producer's own key, so that publishing twice publishes once. */
export interface DedupeOptions {
  /** 1 to 200 characters. It belongs to its channel: another channel's is another key. */
  readonly key: string;
  /**
   * For how long, in ms from the first one's publishing, more than 0 and at most 315,360,000,000 (10
   * years). @default {86400000}
   */
  readonly within?: number;
}

/** When a notification is delivered, and whether it is published once. */
export interface LaterOptions {
  /**
   * Delivers it so many ms after the call at the earliest, by the server's clock: 0 to 315,360,000,000
   * (10 years).
   */
  readonly delay?: number;
  /** Delivers it at this time at the earliest, within 10 years; a time that has passed is due at once. */
  readonly deliverAt?: Date;
  /**
   * Publishes nothing where this channel had a notification under the same key within a day, or within
   * the time given.
   */
  readonly dedupe?: string | DedupeOptions;
}

/** The names of {@linkcode LaterOptions}. */
export const laterOptions = ["delay", "deliverAt", "dedupe"] as const;

/** Whether hark.notify is not enough. */
export function isForLater(options: LaterOptions): boolean {
  return laterOptions.some((name) => options[name] !== undefined);
}

/** The fields of hark.notify_each for these options, as JSON text: each begins with a comma. */
export function laterText({ delay, deliverAt, dedupe }: LaterOptions): string {
  if (delay !== undefined && deliverAt !== undefined) {
    throw new HarkError(
      "BAD_OPTION",
      `there are both a delay (${show(delay)}) and a deliverAt (${show(deliverAt)})`,
      { remedy: "Give one of them." },
    );
  }
  return (delay === undefined ? "" : `,"delay_ms":${delayChecked(delay)}`) +
    (deliverAt === undefined ? "" : `,"deliver_at":"${timeText(deliverAt)}"`) +
    (dedupe === undefined ? "" : dedupeText(dedupe));
}

function delayChecked(delay: unknown): number {
  if (typeof delay !== "number" || !(delay >= 0 && delay <= LONGEST)) {
    const isMoment = Number.isFinite(delay) && delay as number > LONGEST;
    bad(
      "delay",
      shown(delay),
      `Give milliseconds from now, 0 to ${LONGEST} (10 years)${
        isMoment ? "; a moment is a deliverAt, as a Date" : ""
      }.`,
    );
  }
  return delay;
}

function timeText(time: unknown): string {
  if (!(time instanceof Date) || Number.isNaN(time.getTime())) {
    bad("deliverAt", time, "Give a valid Date.");
  }
  if (time.getTime() > Date.now() + LONGEST) {
    bad("deliverAt", time.toISOString(), "Give a time within 10 years.");
  }
  // PostgreSQL reads no year before 1 in this notation; all that has passed is due at once.
  return new Date(Math.max(0, time.getTime())).toISOString();
}

function dedupeText(dedupe: unknown): string {
  const given = typeof dedupe === "string" ? { key: dedupe } : dedupe as DedupeOptions;
  if (given === null || typeof given !== "object" || Array.isArray(given)) {
    bad("dedupe", dedupe, "Give a key, or { key, within }.");
  }
  knownOptions("dedupe", given, ["key", "within"]);
  const { key, within = DAY } = given;
  const length = typeof key !== "string" ? 0 : key.length > 400 ? key.length : [...key].length;
  if (typeof key !== "string" || length < 1 || length > 200) {
    bad("the dedupe key", key, "Give text of 1 to 200 characters.");
  }
  if (typeof within !== "number" || !(within > 0 && within <= LONGEST)) {
    bad(
      "within",
      shown(within),
      `Give milliseconds, more than 0 and at most ${LONGEST} (10 years).`,
    );
  }
  // Less than a microsecond would be none.
  return `,"dedupe_key":${JSON.stringify(text("the dedupe key", key, "BAD_OPTION"))}` +
    `,"within_ms":${Math.max(within, 0.001)}`;
}

/** JSON has no NaN and no infinity: show() would call them null. */
function shown(value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}
