/**
 * `hark check`: whether consumers are within limits, for monitoring systems.
 *
 * @module
 */

import { ageBounds } from "../duration.ts";
import type { CheckResult } from "../operate/check.ts";
import { databaseCommand } from "./args/command.ts";
import { maybe, number, positional, several, words } from "./args/options.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "./exit_codes.ts";
import { complain } from "./print/output.ts";
import { paint, visible, visibleLines } from "./print/style.ts";
import { countText, named } from "./print/text.ts";
import { maybeDuration } from "./args/values.ts";

const count = number("N", { least: 0, most: 1_000_000 });

/** The exit codes that monitoring systems expect. */
const codes = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const;

/** `hark check`. */
export const check = databaseCommand({
  name: "check",
  brief: "Compare consumers with limits, for monitoring systems.",
  description:
    "Writes one line for each cause. The exit code is 0 if all is well, 2 if a limit is exceeded, and " +
    "1 for a sign of trouble that no limit is about: a consumer with something to do that no worker " +
    "serves, or a partition that is held up. It is 3 if it could not tell: the database was not reached, " +
    "the role lacks a right, or a backlog is too long to be counted. It is 4 if the schema is missing.",
  examples: [
    ["hark check --max-lag 5m --max-dead 0", "every consumer"],
    ["hark check --max-unread 1000 billing mail", "two of them"],
    ["hark check --max-lag 5m --json", "for a program"],
  ],
  options: {
    consumers: several(positional(words("CONSUMER"), "Only these consumers. Default: all.")),
    maxLag: maybeDuration(
      "--max-lag",
      "The oldest unread notification may be this old, and a delayed one this long overdue.",
      ageBounds,
    ),
    maxUnread: maybe("--max-unread", count, "Up to N notifications may be unread."),
    maxDead: maybe("--max-dead", count, "There may be up to N dead letters."),
    maxWaiting: maybe("--max-waiting", count, "Up to N may wait, for a retry for example."),
    maxAge: maybeDuration(
      "--max-age",
      "The oldest notification that is unread or waits may be this old.",
      ageBounds,
    ),
  },
  async run(db, o) {
    const { check } = await import("../operate/check.ts");
    let result: CheckResult;
    try {
      result = await check(db, o);
    } catch (error) {
      // As 1 this would be a warning.
      if (exitCodeOf(error) !== exitCodes.failed) throw error;
      await complain(visibleLines(sentenceOf(error)));
      return codes.unknown;
    }
    const { level, causes } = result;
    const isUnknown = level === "warning" && causes.every(({ what }) => what === "uncounted");
    return {
      json: result,
      text: causes.length === 0
        ? `${paint("green", "ok")}: ${countText(result.consumers, "consumer")}`
        : causes.map(({ level, consumer, message }) =>
          `${paint(level === "critical" ? "red" : "yellow", level)}: ${
            consumer === null ? "" : `${named(consumer)}: `
          }${visible(message)}`
        ).join("\n"),
      code: codes[isUnknown ? "unknown" : level],
    };
  },
});
