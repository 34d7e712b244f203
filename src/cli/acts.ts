/**
 * `hark acts`: what operators did.
 *
 * @module
 */

import type { Act } from "../operate/acts.ts";
import { databaseCommand, given } from "./command.ts";
import { limit, maybe, words } from "./options.ts";
import { blocks, type Cell, plain, table } from "./table.ts";
import { timeText } from "./text.ts";
import { id } from "./values.ts";

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
    const { limit } = o;
    const found = await acts(db, { ...given({ about: o.about, before: o.before }), limit });
    return {
      json: found,
      text: blocks(
        found.length === 0 ? "no operator has acted yet" : listText(found),
        found.length < limit ? "" : `To go on: add --before ${found.at(-1)!.act}`,
      ),
    };
  },
});

function listText(found: readonly Act[]): string {
  return table(
    "act, when, person, role, what, about, notifications, detail",
    found.map((one): Cell[] => [
      plain(one.act),
      timeText(one.at),
      one.person ?? "-",
      one.role === one.login ? one.role : `${one.role} (${one.login})`,
      one.what,
      one.about ?? "-",
      one.affected ?? "-",
      one.detail === "" ? "-" : one.detail,
    ]),
  );
}
