/**
 * `hark log`: look at the log, and delete from it.
 *
 * @module
 */

import type { NotificationDetails } from "../../operate/notification.ts";
import { commandGroup, databaseCommand } from "../args/command.ts";
import { parseDigits } from "../../exact_json.ts";
import { deletions, remove } from "./deletions.ts";
import { exitCodes } from "../exit_codes.ts";
import { channels } from "./channels.ts";
import { filter } from "./filter.ts";
import { nextAttempt } from "../next_attempt.ts";
import { limit, maybe, number, positional, several, toggle, words } from "../args/options.ts";
import { complain } from "../print/output.ts";
import { blocks, facts, payloadCell, plain, tableOf } from "../print/table.ts";
import {
  ago,
  bytesText,
  countText,
  errorInShort,
  named,
  shortened,
  timeText,
} from "../print/text.ts";
import { id } from "../args/values.ts";

const list = databaseCommand({
  name: "log list",
  replica: "alone",
  brief: "Show notifications, the newest first.",
  description:
    "A page of the log. The log has no index beside its primary key, the id, so a page also ends after 100,000 " +
    "notifications that do not match, and says how far it looked. With --json also payload and headers " +
    "in full.",
  examples: [
    ["hark log list orders --key ada", "the newest of one customer"],
    ["hark log list --from 2026-11-21T10:00:00Z --oldest-first", "from a time on"],
    ['hark log list --contains \'{"city":"Bern"}\'', "by what is in the payload"],
  ],
  options: {
    channels: several(positional(words("CHANNEL"), "Only these channels. Default: all.")),
    ...filter,
    oldestFirst: toggle("--oldest-first", "The lowest id first."),
    limit: limit(20),
    before: maybe("--before", id, "Only ids below this one: the next page."),
    after: maybe("--after", id, "Only ids above this one: the next page, with --oldest-first."),
    maxScanned: maybe(
      "--scan",
      number("N", { least: 1, most: 1_000_000 }),
      "Look at no more than this many. Default: 100,000.",
    ),
  },
  async run(db, { oldestFirst, ...o }) {
    const { readNotifications } = await import("../../operate/notifications.ts");
    const page = await readNotifications(db, { ...o, newestFirst: !oldestFirst }, parseDigits);
    const { notifications: found, looked, lookedThrough, more } = page;
    const way = oldestFirst ? "--after" : "--before";
    return {
      json: page,
      text: blocks(
        tableOf(
          found,
          "id, channel, key, published, size, payload",
          (one) => [
            plain(one.id),
            shortened(one.channel, 30),
            shortened(one.key ?? "-", 30),
            timeText(one.createdAt),
            { text: bytesText(one.bytes), right: true },
            payloadCell(one),
          ],
          "no notification matches",
        ),
        more
          ? (found.length < o.limit
            ? `Looked at ${countText(looked, "notification")}, through id ${lookedThrough}. `
            : "") + `To go on: add ${way} ${lookedThrough}`
          : "",
      ),
    };
  },
});

const show = databaseCommand({
  name: "log show",
  replica: "alone",
  brief: "Show one notification, and what became of it at each consumer.",
  description:
    "With its payload, headers and size. For each consumer: handled, unread, waiting with the next " +
    "attempt and the last error, dead, filtered (by its filter), foreign (not of its channels), or " +
    "absent (no longer in the log). If it is nowhere, the exit code is 1.",
  examples: [["hark log show 42", "which consumers have handled it?"]],
  options: { id: positional(id, "The id of the notification.") },
  async run(db, o) {
    const { readNotification } = await import("../../operate/notification.ts");
    const found = await readNotification(db, o.id, parseDigits);
    if (found === null) {
      await complain(`notification ${o.id} is not in the log, and no consumer has kept it`);
    }
    return {
      json: found,
      text: found === null ? "" : detailsText(found),
      code: found === null ? exitCodes.failed : exitCodes.ok,
    };
  },
});

function detailsText(one: NotificationDetails): string {
  return blocks(
    facts([
      ["notification", plain(one.id)],
      ["channel", one.channel ?? "-"],
      ["key", one.key ?? "-"],
      [
        "published",
        one.createdAt === null ? "-" : `${timeText(one.createdAt)}, ${ago(one.createdAt)}`,
      ],
      ["size", bytesText(one.bytes)],
      ["where", one.inLog ? "in the log" : "no longer in the log: a consumer's copy"],
      ["headers", JSON.stringify(one.headers)],
      [
        "payload",
        one.problem === null
          ? JSON.stringify(one.payload, null, 2)
          : { text: one.problem, style: "red" },
      ],
    ]),
    tableOf(
      one.consumers,
      "consumer, verdict, attempts, next attempt, failed, error",
      (
        { consumer, verdict, state, attempts, nextAttemptAt, hasWorker, isPaused, failedAt, error },
      ) => [
        consumer,
        state === null ? verdict : `${verdict} (${state})`,
        attempts === 0 ? { text: "-", right: true } : attempts,
        nextAttemptAt === null
          ? "-"
          : nextAttempt({ state, due: nextAttemptAt, hasWorker, isPaused }),
        failedAt === null ? "-" : ago(failedAt),
        { text: errorInShort(error ?? "-"), style: error === null ? undefined : "red" },
      ],
      "no consumer is registered",
    ),
    facts(
      one.consumers.flatMap(({ consumer, error }) =>
        error === null || error === errorInShort(error)
          ? []
          : [[`error of ${named(consumer)}`, { text: error, style: "red" as const }]]
      ),
    ),
  );
}

/** `hark log`. */
export const log = commandGroup({
  name: "log",
  brief: "Look at the log, and delete from it.",
  description: "The log is what was published and is kept. To follow it as it grows: hark tail.",
  examples: [
    ["hark log list orders", "the newest of a channel"],
    ["hark log show 42", "one, and what became of it"],
    ["hark log deletions", "what was deleted by hand"],
  ],
}, { list, show, channels, delete: remove, deletions });
