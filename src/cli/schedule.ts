/**
 * `hark schedule`: what is published again and again.
 *
 * @module
 */

import { optional } from "@optique/core/modifiers";
import { choice } from "@optique/core/valueparser";
import { channelName } from "../check.ts";
import { commandGroup, databaseCommand } from "./args/command.ts";
import { parseDigits } from "../exact_json.ts";
import { parsePayload } from "./ndjson.ts";
import { maybe, number, positional, refuse, words } from "./args/options.ts";
import { blocks, plain, tableOf } from "./print/table.ts";
import { ago, named, shellWord, timeText, until } from "./print/text.ts";
import { exitCodes } from "./exit_codes.ts";

const schedule = positional(words("NAME"), "The schedule's name: see hark schedule list.");

const add = databaseCommand({
  name: "schedule add",
  brief: "Publish at each time that a cron pattern names.",
  description:
    "Whichever worker runs publishes each time, once. A schedule of this name is replaced. While " +
    "no worker runs, nothing is published.",
  examples: [
    ["hark schedule add report '0 3 * * *' reports", "at 03:00 UTC each day"],
    [
      `hark schedule add mail '30 8 * * MON-FRI' mail '{"kind":"daily"}' --timezone Europe/Berlin`,
      "with a payload",
    ],
    ["hark schedule add beat '*/10 * * * * *' beats --missed skip", "every 10 seconds"],
  ],
  options: {
    name: positional(words("NAME"), "A name for it, of your choice."),
    cron: positional(
      words("CRON"),
      "Minute, hour, day, month, weekday; seconds first if there are six fields.",
    ),
    channel: positional(words("CHANNEL"), "The channel to publish on."),
    payload: optional(positional(words("PAYLOAD"), "The payload as JSON. Default: {}.")),
    key: maybe("--key", words("KEY"), "The key of each notification."),
    timezone: maybe(
      "--timezone",
      words("ZONE"),
      "The time zone in which the pattern is read, such as Europe/Berlin. Default: UTC.",
    ),
    missed: maybe(
      "--missed",
      choice(["once", "skip"], { metavar: "WHAT" }),
      "Times at which no worker ran: publish once for all of them (once, the default), or skip.",
    ),
  },
  check(o) {
    channelName(o.channel);
    if (o.payload !== undefined) parsePayload(o.payload);
  },
  async run(db, o) {
    const { schedule } = await import("../operate/schedules.ts");
    const { name, cron, payload, ...same } = o;
    const nextAt = await schedule(db, name, cron, {
      ...same,
      ...payload === undefined ? {} : { payload: parsePayload(payload) },
    });
    const { channel } = o;
    return {
      json: { name, cron, channel, nextAt },
      text: `${named(name)} publishes on ${named(channel)}, next ${until(nextAt)}: ` +
        timeText(nextAt),
    };
  },
});

const remove = databaseCommand({
  name: "schedule remove",
  brief: "Remove a schedule.",
  description:
    "What it has published stays in the log. If there is no such schedule, the exit code is 1.",
  examples: [["hark schedule remove report", "no more reports"]],
  options: { name: schedule },
  async run(db, { name }) {
    const { unschedule } = await import("../operate/schedules.ts");
    const changed = await unschedule(db, name);
    return {
      json: { name, changed },
      text: changed ? `${named(name)} is removed` : `there was no schedule ${named(name)}`,
      code: changed ? exitCodes.ok : exitCodes.failed,
    };
  },
});

const list = databaseCommand({
  name: "schedule list",
  brief: "Show all schedules, and when each is due.",
  description: "With --json also payload, key and headers.",
  examples: [["hark schedule list", "by name"]],
  async run(db) {
    const { readSchedules } = await import("../operate/schedules.ts");
    const found = await readSchedules(db, parseDigits);
    return {
      json: found,
      text: blocks(
        tableOf(
          found,
          "schedule, pattern, time zone, channel, missed, next, last, notification",
          (one) => [
            one.name,
            one.cron,
            one.timezone,
            one.channel,
            one.missed,
            one.nextAt === null ? "never" : until(one.nextAt),
            ago(one.lastAt),
            one.lastId === null ? "-" : plain(one.lastId),
          ],
          "there is no schedule; to make one: hark schedule add --help",
        ),
        tableOf(
          found.filter(({ problem }) => problem !== null),
          "schedule, problem",
          (one) => [one.name, { text: one.problem!, style: "red" }],
        ),
      ),
    };
  },
});

const next = databaseCommand({
  name: "schedule next",
  brief: "Show the next times of a schedule.",
  examples: [["hark schedule next report --count 3", "when the next three are due"]],
  options: {
    name: schedule,
    count: maybe("--count", number("N", { least: 1, most: 1000 }), "How many. Default: 5."),
  },
  async run(db, { name, count = 5 }) {
    const { schedules } = await import("../operate/schedules.ts");
    const { cronTimes } = await import("../publish/cron.ts");
    const found = (await schedules(db)).find((one) => one.name === name);
    if (found === undefined) {
      return refuse(`there is no schedule ${named(name)}`, "See hark schedule list.");
    }
    const { cron, timezone, nextAt } = found;
    const later = nextAt === null ? [] : await cronTimes(cron, timezone, nextAt, count - 1);
    const times = nextAt === null ? [] : [nextAt, ...later];
    return {
      json: times,
      text: times.length === 0
        ? `${named(name)} is never due: hark schedule list`
        : times.map((time) => `${timeText(time)}  ${inZone(time, timezone)}`).join("\n"),
    };
  },
});

/** A time as the clocks of a zone show it. */
function inZone(time: Date, timeZone: string): string {
  const shown = new Intl.DateTimeFormat("sv-SE", {
    timeZone,
    dateStyle: "short",
    timeStyle: "medium",
  }).format(time);
  return `${shown} ${shellWord(timeZone)}`;
}

/** `hark schedule`. */
export const scheduling = commandGroup({
  name: "schedule",
  brief: "Publish on a schedule: list, add, remove, next.",
  description: "Whichever worker runs publishes each time of each schedule, once.",
  examples: [
    ["hark schedule add report '0 3 * * *' reports", "at 03:00 UTC each day"],
    ["hark schedule list", "all schedules"],
    ["hark schedule next report", "when it is due"],
    ["hark schedule remove report", "no more reports"],
  ],
}, { list, add, remove, next });
