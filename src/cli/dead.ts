/**
 * `hark dead`: lists dead letters.
 *
 * @module
 */

import type { DeadNotification } from "../operate/dead.ts";
import { commandGroup, databaseCommand, elsewhere } from "./args/command.ts";
import { parseDigits } from "../exact_json.ts";
import { limit, maybe, onlyConsumer, positional, several, words } from "./args/options.ts";
import { blocks, plain, table, tableOf } from "./print/table.ts";
import { ago, errorInShort, named, numberText, shellWord, shortened } from "./print/text.ts";
import { id, time } from "./args/values.ts";

/** The options that choose notifications a consumer has failed on. */
export const filter = {
  ids: several(positional(id, "Only these notifications.")),
  channel: maybe("--channel", words("CHANNEL"), "Only of this channel."),
  key: maybe("--key", words("KEY"), "Only of this key."),
  error: maybe("--error", words("TEXT"), "Only with this text in the error's message."),
  diedAfter: maybe(
    "--after",
    time,
    "Only dead letters given up at this time or later: ISO 8601, in UTC without an offset, or 2h for two hours ago.",
  ),
  diedBefore: maybe(
    "--before",
    time,
    "Only dead letters given up before this time: ISO 8601, in UTC without an offset, or 30d for 30 days ago.",
  ),
  fromId: maybe("--from-id", id, "Only this id and above."),
  toId: maybe("--to-id", id, "Only this id and below."),
};

const list = databaseCommand({
  name: "dead list",
  brief: "Show dead letters with their last errors.",
  description: "Ordered by consumer and id. With --json also payload and headers.",
  examples: [
    ["hark dead list", "of every consumer"],
    ["hark dead list billing --error timeout", "with this text in the error"],
  ],
  options: {
    consumer: onlyConsumer,
    ...filter,
    limit: limit(100, 1_000_000),
    after: maybe("--after-id", id, "Go on after this id; needs CONSUMER."),
  },
  async run(db, o, json) {
    const { readDeadLetters } = await import("../operate/dead.ts");
    const found = await readDeadLetters(db, { ...o, contents: json }, parseDigits);
    return { json: found, text: found.length === 0 ? "no dead letter" : listText(found, o.limit) };
  },
});

function listText(found: readonly DeadNotification[], limit: number): string {
  const last = found.at(-1)!;
  const cut = found.find(({ error }) => error !== null && errorInShort(error) !== error);
  return blocks(
    table(
      "consumer, id, channel, key, attempts, given up, error",
      found.map((one) => [
        one.consumer,
        plain(one.id),
        shortened(one.channel ?? "-", 30),
        shortened(one.key ?? "-", 30),
        one.attempts,
        ago(one.diedAt),
        // One line for each, so that the table can be read at a glance.
        { text: errorInShort(one.error ?? "-"), style: "red" },
      ]),
    ),
    cut === undefined ? "" : `A whole error: hark log show ${cut.id}`,
    found.length < limit
      ? ""
      : `These are the first ${numberText(limit)}. For more of ${named(last.consumer)}: ` +
        `hark dead list ${shellWord(last.consumer)} --after-id ${last.id}`,
  );
}

const groups = databaseCommand({
  name: "dead groups",
  brief: "Show dead letters by their errors.",
  description:
    "By consumer and by how the errors begin, up to the first digit or quotation mark: at most 100 groups of " +
    "50,000 dead letters, the largest first. hark retry and hark discard take the beginning as --error.",
  examples: [
    ["hark dead groups", "of every consumer"],
    ["hark dead groups billing", "of one"],
  ],
  options: {
    consumer: onlyConsumer,
  },
  async run(db, o) {
    const { deadGroups } = await import("../operate/dead_groups.ts");
    const found = await deadGroups(db, o.consumer);
    return {
      json: found,
      text: tableOf(
        found,
        "consumer, dead letters, last, error begins",
        (one) => [
          one.consumer,
          one.count,
          ago(one.lastAt),
          // Whole, as it is what --error takes.
          { text: one.error ?? "-", style: "red" },
        ],
        "no dead letter",
      ),
    };
  },
});

/** `hark dead`. */
export const dead = commandGroup(
  {
    name: "dead",
    brief: "List dead letters.",
    description:
      "A notification whose handler has failed too often becomes a dead letter: a copy with the last " +
      "error, which stays until it is retried or discarded: hark retry, hark discard.",
    examples: [
      ["hark dead list", "all of them"],
      ["hark dead groups", "how many there are of each error"],
      ["hark retry billing --all", "after the cause is repaired"],
      ["hark discard billing 42", "one that can never succeed"],
    ],
  },
  { list, groups },
  [elsewhere("dead retry"), elsewhere("dead discard")],
);
