/**
 * `hark log delete` and `hark log deletions`: delete from the log, and the record of that.
 *
 * @module
 */

import { databaseCommand } from "../args/command.ts";
import { filter } from "./filter.ts";
import {
  contradiction,
  limit,
  maybe,
  needed,
  positional,
  refuse,
  several,
  words,
} from "../args/options.ts";
import { blocks, plain, tableOf } from "../print/table.ts";
import { countText, numberText, roleText, shellWord, shortened, timeText } from "../print/text.ts";
import { id } from "../args/values.ts";

/** `hark log delete`. */
export const remove = databaseCommand({
  name: "log delete",
  brief: "Delete notifications for good, with every copy.",
  description:
    "Read or not: from the log, with what waits for a retry, dead letters and delayed notifications. " +
    "For what should not have been published, and to erase one customer's data. It looks through the " +
    "whole log unless --from or --to is given. A record of the role, the time and the reason stays: hark log " +
    "deletions. See what would go with hark log list and the same options.",
  examples: [
    ["hark log delete 7 8 --reason 'published by mistake'", "these two"],
    ["hark log delete --key customer-42 --reason 'erasure, ticket 1234'", "one customer's data"],
  ],
  options: {
    ids: several(positional(id, "Only these notifications.")),
    channel: maybe("--channel", words("CHANNEL"), "Only of this channel."),
    ...filter,
    reason: needed(
      "--reason",
      words("TEXT"),
      "Why: kept with the record. Leave out names of persons.",
    ),
  },
  check({ ids, reason: _, ...chosen }) {
    const filtered = Object.keys(chosen).length > 0;
    if (ids !== undefined && filtered) contradiction("ids", "a filter");
    if (ids === undefined && !filtered) {
      refuse(
        "hark log delete does not know which notifications you mean",
        "Give ids, or a filter such as --key: hark log delete --help",
      );
    }
  },
  async run(db, { ids, reason, ...chosen }) {
    const { deleteNotifications } = await import("../../operate/delete.ts");
    const done = await deleteNotifications(db, ids ?? chosen, { reason });
    const copies = ([
      ["that waited", done.waiting],
      ["given up", done.dead],
      ["delayed", done.delayed],
    ] as const).filter(([, count]) => count > 0).map(([what, count]) =>
      `${numberText(count)} ${what}`
    );
    return {
      json: done,
      text: `${countText(done.log, "notification")} deleted from the log` +
        (copies.length === 0 ? "" : `, and ${copies.join(", ")}`) +
        `; recorded as deletion ${done.deletion}`,
    };
  },
});

/** `hark log deletions`. */
export const deletions = databaseCommand({
  name: "log deletions",
  brief: "Show deletions: by which role, when and why.",
  description: "The newest first. A deletion that was interrupted has no end.",
  examples: [["hark log deletions", "the last 100"]],
  options: {
    limit: limit(100),
    before: maybe("--before", id, "Only deletions below this number: the next page."),
  },
  async run(db, o) {
    const { deletions } = await import("../../operate/delete.ts");
    const found = await deletions(db, o);
    return {
      json: found,
      text: blocks(
        tableOf(
          found,
          "deletion, when, role, chosen by, log, waiting, dead, delayed, reason",
          (one) => [
            plain(one.deletion),
            timeText(one.begunAt),
            roleText(one),
            one.choice
              .map((what) => what === "channel" ? `channel ${shellWord(one.channel!)}` : what)
              .join(", "),
            one.log,
            one.waiting,
            one.dead,
            one.delayed,
            one.finishedAt === null
              ? { text: `${shortened(one.reason, 80)} (not finished)`, style: "yellow" }
              : shortened(one.reason, 80),
          ],
          "nothing was deleted by hand",
        ),
        found.length < o.limit ? "" : `To go on: add --before ${found.at(-1)!.deletion}`,
      ),
    };
  },
});
