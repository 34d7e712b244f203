/**
 * `hark delayed`: the notifications that are not due yet.
 *
 * @module
 */

import { multiple } from "@optique/core/modifiers";
import { commandGroup, databaseCommand } from "./args/command.ts";
import { parseDigits } from "../exact_json.ts";
import { exitCodes } from "./exit_codes.ts";
import { limit, maybe, positional, refuse, words } from "./args/options.ts";
import { complain } from "./print/output.ts";
import { blocks, payloadCell, plain, tableOf } from "./print/table.ts";
import { ago, countText, shortened, until } from "./print/text.ts";
import { id } from "./args/values.ts";

const list = databaseCommand({
  name: "delayed list",
  brief: "Show delayed notifications, the next one due first.",
  description: "With --json also payload and headers in full.",
  examples: [["hark delayed list --channel reminders", "of one channel"]],
  options: {
    channel: maybe("--channel", words("CHANNEL"), "Only of this channel."),
    key: maybe("--key", words("KEY"), "Only with this key."),
    limit: limit(100),
    after: maybe("--after", id, "Go on after this number."),
  },
  async run(db, o) {
    const { readDelayed } = await import("../operate/delayed.ts");
    const found = await readDelayed(db, o, parseDigits);
    return {
      json: found,
      text: blocks(
        tableOf(
          found,
          "number, channel, key, due, role, payload",
          (one) => [
            plain(one.number),
            shortened(one.channel, 30),
            shortened(one.key ?? "-", 30),
            one.deliverAt.getTime() > Date.now()
              ? until(one.deliverAt)
              : { text: ago(one.deliverAt), style: "yellow" },
            one.owner,
            payloadCell(one),
          ],
          "no notification is delayed",
        ),
        found.length < o.limit ? "" : `To go on: add --after ${found.at(-1)!.number}`,
      ),
    };
  },
});

const cancel = databaseCommand({
  name: "delayed cancel",
  brief: "Cancel delayed notifications.",
  description:
    "They are never delivered, and their dedupe keys are free again. If one of them is not delayed " +
    "any more, the exit code is 1.",
  examples: [["hark delayed cancel 7 8", "these two"]],
  options: { numbers: multiple(positional(id, "The numbers: see hark delayed list.")) },
  check(o) {
    if (o.numbers.length === 0) {
      refuse("hark delayed cancel was given no number", "Give one: see hark delayed list.");
    }
  },
  async run(db, o) {
    const { cancelDelayed } = await import("../publish/cancel.ts");
    const cancelled: number[] = [];
    const late: number[] = [];
    for (const number of new Set(o.numbers)) {
      (await cancelDelayed(db, number) ? cancelled : late).push(number);
    }
    for (const number of late) {
      await complain(
        `${number} is not delayed: it was delivered or cancelled, or never was. See hark delayed list`,
      );
    }
    return {
      json: { cancelled, notDelayed: late },
      text: cancelled.length === 0
        ? ""
        : `${countText(cancelled.length, "notification")} cancelled`,
      code: late.length === 0 ? exitCodes.ok : exitCodes.failed,
    };
  },
});

/** `hark delayed`. */
export const delayed = commandGroup({
  name: "delayed",
  brief: "List and cancel notifications that are not due yet.",
  description: "Those that were published with a delay or a time, and are not in the log yet.",
  examples: [
    ["hark delayed list", "the next one due first"],
    ["hark delayed cancel 7", "never deliver it"],
  ],
}, { list, cancel });
