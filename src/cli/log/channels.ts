/**
 * `hark log channels`: how much was published on each channel.
 *
 * @module
 */

import { aDay } from "../../duration.ts";
import { databaseCommand } from "../args/command.ts";
import { maybe, number } from "../args/options.ts";
import { blocks, tableOf } from "../print/table.ts";
import { ago, bytesText, countText, shortened } from "../print/text.ts";
import { maybeDuration } from "../args/values.ts";

/** `hark log channels`. */
export const channels = databaseCommand({
  name: "log channels",
  replica: "alone",
  brief: "Show how much was published on each channel, and how many consumers read it.",
  description:
    "Of the last 24 hours, or of another time. It looks at the newest million notifications, and says " +
    "how far it looked.",
  examples: [
    ["hark log channels", "the last day"],
    ["hark log channels --since 1h", "the last hour"],
  ],
  options: {
    since: maybeDuration("--since", "From this long ago on. Default: 24h.", {
      least: 0,
      most: Date.now(),
    }),
    maxScanned: maybe(
      "--scan",
      number("N", { least: 1, most: 10_000_000 }),
      "Look at no more than this many. Default: 1,000,000.",
    ),
  },
  async run(db, { since = aDay, ...o }) {
    const { logChannels } = await import("../../operate/log_channels.ts");
    const found = await logChannels(db, { from: new Date(Date.now() - since), ...o });
    const { channels, looked, lookedThrough, more } = found;
    return {
      json: found,
      text: blocks(
        tableOf(
          channels,
          "channel, notifications, size, first, last, consumers",
          (one) => [
            shortened(one.channel, 60),
            one.notifications,
            { text: bytesText(one.bytes), right: true },
            ago(one.firstAt),
            ago(one.lastAt),
            one.consumers === 0
              ? { text: "none reads it", style: "yellow" }
              : String(one.consumers),
          ],
          "nothing was published in that time",
        ),
        more ? `Looked at ${countText(looked, "notification")}, through id ${lookedThrough}.` : "",
      ),
    };
  },
});
