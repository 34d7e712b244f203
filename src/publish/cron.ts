/**
 * When a schedule is due: reads cron patterns.
 *
 * @module
 */

import type { Cron } from "croner";
import { bad } from "../check.ts";

/**
 * The times of a pattern after a given time, the first of them first. Empty if the pattern names no
 * later time. Loads the parser when it is first called, so that a program that only publishes does
 * without it.
 *
 * @throws {HarkError} `BAD_OPTION` if the pattern or the time zone cannot be read.
 */
export async function cronTimes(
  pattern: string,
  timezone: string,
  after: Date,
  count: number = 1,
): Promise<Date[]> {
  const cron = await cronOf(pattern, timezone);
  const times: Date[] = [];
  for (let last: Date | null = after; times.length < count;) {
    last = cron.nextRun(last);
    if (last === null) break;
    times.push(last);
  }
  return times;
}

async function cronOf(pattern: string, timezone: string): Promise<Cron> {
  const { Cron } = await import("croner");
  if (typeof timezone !== "string" || !isTimezone(timezone)) {
    bad("timezone", timezone, "Give the name of a time zone, such as Europe/Berlin or UTC.");
  }
  const remedy =
    "Give 5 fields (minute, hour, day, month, weekday), such as 0 3 * * *, or 6 with " +
    "seconds first, or @daily, for example.";
  // The parser also takes the text of a single time, and years as a seventh field.
  const fields = typeof pattern === "string" ? pattern.trim().split(/\s+/).length : 0;
  if (fields !== 5 && fields !== 6 && !(fields === 1 && pattern.trim().startsWith("@"))) {
    bad("cron", pattern, remedy);
  }
  try {
    return new Cron(pattern, { timezone, paused: true });
  } catch (error) {
    const reason = (error as Error).message.replace(/^CronPattern: /, "").replace(/\.$/, "");
    return bad("cron", pattern, `${reason}. ${remedy}`);
  }
}

function isTimezone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
