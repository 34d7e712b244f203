/**
 * `hark seek`: moves a consumer's position.
 *
 * @module
 */

import { argument } from "@optique/core/primitives";
import type { StartFrom } from "../consume/start.ts";
import { databaseCommand } from "./command.ts";
import { plainText } from "./help.ts";
import { consumer } from "./options.ts";
import { countText, named } from "./text.ts";
import { beginning } from "./values.ts";

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
    to: argument(beginning("TO", ["beginning", "now", "end"]), {
      description: plainText("beginning, now (or end), an id, or a time (ISO 8601)."),
    }),
  },
  async run(db, o) {
    const { seek } = await import("../operate/move.ts");
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
