/**
 * `hark seek` and `hark replay`: deliver again, from a place on or a range.
 *
 * @module
 */

import { multiple } from "@optique/core/modifiers";
import type { StartFrom } from "../consume/start.ts";
import { databaseCommand, given } from "./command.ts";
import { consumer, maybe, needed, positional, words } from "./options.ts";
import { countText, named } from "./text.ts";
import { beginning, place } from "./values.ts";

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
  ],
  options: {
    consumer,
    to: positional(
      beginning("TO", ["beginning", "now", "end"]),
      "beginning, now (or end), an id, or a time (ISO 8601).",
    ),
  },
  async run(db, o) {
    const { seek } = await import("../operate/seek.ts");
    const { givenUp } = await seek(db, o.consumer, o.to);
    const dead = givenUp === 0
      ? ""
      : `; ${countText(givenUp, "waiting notification")} became dead letters`;
    return {
      json: { consumer: o.consumer, to: o.to, givenUp },
      text: `${named(o.consumer)} begins ${said(o.to)}${dead}`,
    };
  },
});

function said(to: StartFrom | "end"): string {
  if (typeof to === "string") return to === "beginning" ? "at the beginning" : "at the end, now";
  return "id" in to ? `at id ${to.id}` : `at ${to.time.toISOString()}`;
}

/** `hark replay`. */
export const replay = databaseCommand({
  name: "replay",
  brief: "Deliver a range to a consumer again.",
  description:
    "The consumer handles the range again, beside new notifications. Its position stays. What it " +
    "has not reached yet comes once, in its turn.",
  examples: [
    ["hark replay billing --from 1000 --to 2000", "a range of ids"],
    ["hark replay billing --from 2026-11-21T10:00:00Z --channel orders", "since a time"],
  ],
  options: {
    consumer,
    from: needed("--from", place, "The first id, or a time (ISO 8601)."),
    to: maybe("--to", place, "The last id, or a time. Default: the end of the log."),
    channel: multiple(
      needed(
        "--channel",
        words("CHANNEL"),
        "Only this channel. Repeatable. Default: all of the consumer's.",
      ),
    ),
  },
  async run(db, o) {
    const { replay } = await import("../operate/seek.ts");
    const number = await replay(db, o.consumer, {
      from: o.from,
      ...given({ to: o.to, channels: o.channel.length === 0 ? undefined : o.channel }),
    });
    return {
      json: { consumer: o.consumer, replay: number },
      text: number === null
        ? "nothing was published in that range"
        : `replay ${number} of ${named(o.consumer)} begins when a worker next looks`,
    };
  },
});
