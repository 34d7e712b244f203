/**
 * `hark seek` and `hark replay`: deliver again, from a place on or a range.
 *
 * @module
 */

import { optional } from "@optique/core/modifiers";
import type { LogPlace } from "../consume/start.ts";
import type { Database } from "../database/database.ts";
import type { Whereabouts } from "../operate/retry.ts";
import { given } from "../given.ts";
import { type Answer, databaseCommand } from "./args/command.ts";
import { exitCodes } from "./exit_codes.ts";
import {
  consumer,
  contradiction,
  kind,
  maybe,
  needed,
  positional,
  refuse,
  several,
  toggle,
  words,
} from "./args/options.ts";
import { complain } from "./print/output.ts";
import { countText, named, numberText, shellWord } from "./print/text.ts";
import { beginning, place } from "./args/values.ts";

const dryRun = toggle("--dry-run", "Say what it would do, and do nothing.");

/** `hark seek`. */
export const seek = databaseCommand({
  name: "seek",
  brief: "Move a consumer's position back or forward.",
  description:
    "Everything from there on is delivered, again or for the first time, and nothing before. A " +
    "notification before that place that waits for a retry becomes a dead letter. Workers may run " +
    "while it moves. To deliver a range again without moving, use hark replay.",
  examples: [
    ["hark seek billing beginning", "everything again"],
    ["hark seek billing now", "skip what is there"],
    ["hark seek billing 2026-11-21T10:00:00Z", "from a time on"],
    ["hark seek billing 2h", "from two hours ago on"],
    ["hark seek billing 1000 --dry-run", "how much that would deliver again"],
  ],
  options: {
    consumer,
    to: positional(
      beginning("TO", ["beginning", "now", "end"]),
      "beginning, now (or end), an id, or a time (ISO 8601, in UTC without an offset, or 2h for two hours ago).",
    ),
    dryRun,
  },
  async run(db, { consumer, to, dryRun }) {
    const { previewSeek } = await import("../operate/preview.ts");
    const would = await previewSeek(db, consumer, to);
    const more = would.capped ? " or more" : "";
    if (dryRun) {
      return {
        json: { consumer, to, ...would },
        text: `${named(consumer)} would handle ${
          numberText(would.again)
        }${more} again, and never see ${numberText(would.skipped)}${
          would.skipped > 0 ? more : ""
        } that it has not handled; ${
          countText(would.givenUp, "waiting notification")
        } would become dead letters`,
      };
    }
    const { seek } = await import("../operate/seek.ts");
    const { givenUp } = await seek(db, consumer, to);
    const dead = givenUp === 0
      ? ""
      : `; ${countText(givenUp, "waiting notification")} became dead letters`;
    const counts = [
      would.again > 0 ? `about ${numberText(would.again)}${more} come again` : "",
      would.skipped > 0 ? `about ${numberText(would.skipped)}${more} are skipped` : "",
    ].filter((one) => one !== "");
    return {
      json: { consumer, to, givenUp, again: would.again, skipped: would.skipped },
      text: [`${named(consumer)} begins ${said(to)}`, ...counts].join("; ") + dead,
    };
  },
});

function said(to: LogPlace | "end"): string {
  if (typeof to === "string") return to === "beginning" ? "at the beginning" : "at the end, now";
  return "id" in to ? `at id ${to.id}` : `at ${to.time.toISOString()}`;
}

/** Ids, separated by commas. */
const ids = kind("IDS", [] as readonly number[], (input) => {
  const found = input.split(",").map((one) => /^\s*\d+\s*$/.test(one) ? Number(one) : 0);
  if (found.every((one) => Number.isSafeInteger(one) && one > 0)) return found;
  throw new Error(`IDS is ${JSON.stringify(input)}. Give ids of notifications, such as 41,42.`);
});

/** `hark replay`. */
export const replay = databaseCommand({
  name: "replay",
  brief: "Deliver a range, or chosen notifications, to a consumer again.",
  description:
    "The consumer handles the range again, beside new notifications. Its position stays. What it " +
    "has not reached yet comes once, in its turn. With --ids also what it has failed on: dead letters " +
    "start with their first attempt. If one of the ids does not come again, the exit code is 1.",
  examples: [
    ["hark replay billing --from 1000 --to 2000", "a range of ids"],
    ["hark replay billing --from 2026-11-21T10:00:00Z --channel orders", "since a time"],
    ["hark replay billing --from 2h", "the last two hours"],
    ["hark replay billing --ids 41,42", "these two"],
    ["hark replay --all-consumers --ids 42", "one, for every consumer that reads it"],
  ],
  options: {
    consumer: optional(consumer),
    allConsumers: toggle("--all-consumers", "Every consumer, instead of one; needs --ids."),
    ids: several(needed("--ids", ids, "Only these notifications. Repeatable.")),
    from: maybe(
      "--from",
      place,
      "The first id, or a time (ISO 8601, in UTC without an offset, or 2h for two hours ago).",
    ),
    to: maybe("--to", place, "The last id, or a time. Default: the end of the log."),
    channels: several(
      needed(
        "--channel",
        words("CHANNEL"),
        "Only this channel. Repeatable. Default: all of the consumer's.",
      ),
    ),
    dryRun,
  },
  check(o) {
    const ranged = (o.from ?? o.to ?? o.channels) !== undefined;
    if (o.ids !== undefined && ranged) contradiction("--ids", "a range");
    if (o.ids !== undefined && o.dryRun) contradiction("--ids", "--dry-run");
    if (o.allConsumers && o.consumer !== undefined) contradiction("--all-consumers", "CONSUMER");
    if (o.allConsumers && o.ids === undefined) {
      refuse("--all-consumers was given without --ids", "Name the notifications, or one CONSUMER.");
    }
    if (!o.allConsumers && o.consumer === undefined) {
      refuse("hark replay was given no CONSUMER", "Name one, or give --all-consumers with --ids.");
    }
    if ((o.ids ?? o.from) === undefined) {
      refuse("hark replay was not told what to deliver again", "Give --from, or --ids.");
    }
  },
  async run(db, { consumer, allConsumers: _, ids, dryRun, ...rest }) {
    if (ids !== undefined) return await again(db, ids.flat(), consumer);
    const range = { ...rest, from: rest.from! };
    const name = named(consumer!);
    if (dryRun) {
      const { previewReplay } = await import("../operate/preview.ts");
      const would = await previewReplay(db, consumer!, range);
      return {
        json: { consumer, ...would },
        text: `${name} would handle ${numberText(would.again)}${
          would.capped ? " or more" : ""
        } again; ${numberText(would.unread)} in the range come anyway`,
      };
    }
    const { replay } = await import("../operate/seek.ts");
    const made = await replay(db, consumer!, range);
    return {
      json: made === null
        ? { consumer, replay: null }
        : { consumer, replay: made.number, count: made.count, capped: made.capped },
      text: made === null
        ? "the log has nothing in that range: nothing was published there, or it has been removed"
        : `${made.capped ? "at least " : ""}${countText(made.count, "notification")} of ${name} ${
          made.count === 1 ? "comes" : "come"
        } again when a worker next looks, as replay ${made.number}; to see what is left of it: hark consumers show ${
          shellWord(consumer!)
        }`,
    };
  },
});

async function again(
  db: Database,
  ids: readonly number[],
  consumer: string | undefined,
): Promise<Answer> {
  const { replayIds } = await import("../operate/replay_ids.ts");
  const done = await replayIds(db, ids, given({ consumer }));
  for (const one of done.filter(({ again }) => !again)) {
    await complain(`notification ${one.id} of ${named(one.consumer)} ${reasons[one.place]}`);
  }
  const missing = [...new Set(ids)].filter((id) => !done.some((one) => one.id === id));
  for (const id of missing) {
    await complain(`no consumer reads notification ${id}`);
  }
  const names = [...new Set(done.map(({ consumer }) => consumer))];
  return {
    json: done,
    text: names.map((name) => {
      const count = done.filter(({ consumer, again }) => again && consumer === name).length;
      return `${countText(count, "notification")} of ${named(name)} ${
        count === 1 ? "comes" : "come"
      } again when a worker next looks`;
    }).join("\n"),
    code: missing.length === 0 && done.every(({ again }) => again)
      ? exitCodes.ok
      : exitCodes.failed,
  };
}

/** Why a notification does not come again. */
const reasons: Record<Whereabouts, string> = {
  handled: "is still in hand. Try again in a moment",
  unread: "is not handled yet, and comes in its turn",
  foreign: "is not of its channels, or does not match its filter",
  absent: "is not in the log",
  waiting: "waits already",
  dead: "is a dead letter of which only the id is left",
};
