/**
 * `hark replay`: delivers a range to a consumer again.
 *
 * @module
 */

import { multiple } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import { databaseCommand, given } from "./command.ts";
import { plainText } from "./help.ts";
import { consumer, maybe, words } from "./options.ts";
import { named } from "./text.ts";
import { place } from "./values.ts";

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
    from: option("--from", place, {
      description: plainText("The first id, or a time (ISO 8601)."),
    }),
    to: maybe("--to", place, "The last id, or a time. Default: the end of the log."),
    channel: multiple(option("--channel", words("CHANNEL"), {
      description: plainText("Only this channel. Repeatable. Default: all of the consumer's."),
    })),
  },
  async run(db, o) {
    const { replay } = await import("../operate/move.ts");
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
