/**
 * `hark acts`: what operators did.
 *
 * @module
 */

import { databaseCommand } from "./args/command.ts";
import { limit, maybe, words } from "./args/options.ts";
import { blocks, plain, tableOf } from "./print/table.ts";
import { roleText, timeText } from "./print/text.ts";
import { id } from "./args/values.ts";

/** `hark acts`. */
export const acts = databaseCommand({
  name: "acts",
  brief: "Show what operators did: what, when, and by which role and person.",
  description:
    "Pauses, seeks, replays, retries, discards, removals and changes of settings, by commands, pages, " +
    "calls and SQL. The newest first; the last 10,000 are kept. Deletions from the log have a record of " +
    "their own: hark log deletions.",
  examples: [
    ["hark acts", "the last 100"],
    ["hark acts --about billing", "those about one consumer"],
  ],
  options: {
    about: maybe("--about", words("NAME"), "Only about this consumer, schedule or channel."),
    limit: limit(100),
    before: maybe("--before", id, "Only acts below this number: the next page."),
  },
  async run(db, o) {
    const { acts } = await import("../operate/acts.ts");
    const found = await acts(db, o);
    return {
      json: found,
      text: blocks(
        tableOf(
          found,
          "act, when, person, role, what, about, notifications, detail",
          (one) => [
            plain(one.act),
            timeText(one.at),
            one.person ?? "-",
            roleText(one),
            one.what,
            one.about ?? "-",
            one.affected ?? "-",
            one.detail || "-",
          ],
          "no operator has acted yet",
        ),
        found.length < o.limit ? "" : `To go on: add --before ${found.at(-1)!.act}`,
      ),
    };
  },
});
