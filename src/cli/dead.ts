/**
 * `hark dead`: lists dead letters, has them handled again, removes them.
 *
 * @module
 */

import { object, or } from "@optique/core/constructs";
import { map, multiple, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { argument, command, option } from "@optique/core/primitives";
import { HarkError } from "../errors.ts";
import type { DeadLetterFilter, DeadNotification } from "../operate/dead.ts";
import { ago, consumer, id, quoted, secondWord, shortened, time } from "./consumer.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, number, toggle, words } from "./options.ts";
import { countText, numberText, print, printJson, table, visible } from "./output.ts";

const filter = {
  channel: optional(option("--channel", words("CHANNEL"), {
    description: plainText("Only of this channel."),
  })),
  key: optional(option("--key", words("KEY"), { description: plainText("Only of this key.") })),
  error: optional(option("--error", words("TEXT"), {
    description: plainText("Only with this in the error's message, as it is."),
  })),
  after: optional(option("--after", time, {
    description: plainText("Only given up at this time or later (ISO 8601)."),
  })),
  before: optional(option("--before", time, {
    description: plainText("Only given up before this time (ISO 8601)."),
  })),
  fromId: optional(option("--from-id", id, { description: plainText("Only this id and above.") })),
  toId: optional(option("--to-id", id, { description: plainText("Only this id and below.") })),
};

const ids = multiple(argument(id, { description: plainText("These notifications.") }));

const listOptions = object({
  consumer: optional(argument(words("CONSUMER"), {
    description: plainText("Of this consumer. Default: of all."),
  })),
  ids,
  ...filter,
  limit: optional(option("--limit", number("N", { least: 1, most: 1_000_000 }), {
    description: plainText("At most so many. Default: 100."),
  })),
  afterId: optional(option("--after-id", id, {
    description: plainText("Those after this id, to go on; needs CONSUMER."),
  })),
  ...database,
  json,
});

const changeOptions = object({
  consumer,
  ids,
  ...filter,
  all: toggle("--all", "All of the consumer's, which has to be said."),
  ...database,
  json,
});

type ChangeOptions = InferValue<typeof changeOptions>;

/** `hark dead`. */
export const dead: Parser<"sync", Action, unknown> = command(
  "dead",
  or(
    command("list", map(listOptions, (o) => () => list(o)), {
      brief: plainText("Show dead letters with their last errors."),
      description: plainText("By consumer and id. With --json also payload and headers."),
      footer: examplesFooter(
        ["hark dead list", "of every consumer"],
        ["hark dead list billing --error timeout", "with this in the error"],
      ),
    }),
    command("retry", map(changeOptions, (o) => () => change("retry", o)), {
      brief: plainText("Have dead letters handled again."),
      description: plainText("They begin with their first attempt, beside what is new."),
      footer: examplesFooter(
        ["hark dead retry billing 42 43", "these two"],
        ["hark dead retry billing --error timeout", "those with this in the error"],
        ["hark dead retry billing --all", "all of them"],
      ),
    }),
    command("discard", map(changeOptions, (o) => () => change("discard", o)), {
      brief: plainText("Remove dead letters for good."),
      footer: examplesFooter(
        ["hark dead discard billing 42", "one"],
        ["hark dead discard billing --before 2026-01-01", "old ones"],
      ),
    }),
    { errors: secondWord("dead", ["list", "retry", "discard"]) },
  ),
  {
    brief: plainText("List, retry or discard what consumers have given up."),
    description: plainText(
      "A notification whose handler has failed too often becomes a dead letter: a copy, with the last " +
        "error, that stays until it is retried or discarded.",
    ),
    footer: examplesFooter(
      ["hark dead list", "what has been given up"],
      ["hark dead retry billing --all", "once the cause is repaired"],
      ["hark dead discard billing 42", "it will never work"],
    ),
  },
);

function filterOf(o: Omit<ChangeOptions, "all" | "consumer">): DeadLetterFilter {
  return {
    ...(o.ids.length === 0 ? {} : { ids: o.ids }),
    ...(o.channel === undefined ? {} : { channel: o.channel }),
    ...(o.key === undefined ? {} : { key: o.key }),
    ...(o.error === undefined ? {} : { error: o.error }),
    ...(o.after === undefined ? {} : { diedAfter: o.after }),
    ...(o.before === undefined ? {} : { diedBefore: o.before }),
    ...(o.fromId === undefined ? {} : { fromId: o.fromId }),
    ...(o.toId === undefined ? {} : { toId: o.toId }),
  };
}

async function list(o: InferValue<typeof listOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { deadLetters } = await import("../operate/dead.ts");
  await using db = await openDatabase(o, "dead");
  const limit = o.limit ?? 100;
  const found = await deadLetters(db, {
    ...filterOf(o),
    ...(o.consumer === undefined ? {} : { consumer: o.consumer }),
    ...(o.afterId === undefined ? {} : { after: o.afterId }),
    limit,
  });
  if (o.json) await printJson(found);
  else if (found.length === 0) await print("no dead letter");
  else await print(listText(found, limit));
  return 0;
}

function listText(found: readonly DeadNotification[], limit: number): string {
  const last = found.at(-1)!;
  return [
    table(
      ["consumer", "id", "channel", "key", "attempts", "given up", "error"],
      found.map((one) => [
        one.consumer,
        String(one.id),
        shortened(one.channel ?? "-", 30),
        shortened(one.key ?? "-", 30),
        String(one.attempts),
        ago(one.diedAt),
        shortened(one.error ?? "-", 80),
      ]),
    ),
    ...(found.length < limit ? [] : [
      `the first ${numberText(limit)}; more of "${visible(last.consumer)}": ` +
      `hark dead list ${quoted(last.consumer)} --after-id ${last.id}`,
    ]),
  ].join("\n");
}

async function change(how: "retry" | "discard", o: ChangeOptions): Promise<number> {
  const filter = filterOf(o);
  const filtered = Object.keys(filter).length > 0;
  if (filtered === o.all) {
    throw new HarkError(
      "BAD_OPTION",
      filtered ? "--all and a filter contradict each other" : "it is not said which dead letters",
      { remedy: `Give ids, a filter such as --error, or --all: hark dead ${how} --help` },
    );
  }
  const { openDatabase } = await import("./database.ts");
  const { discardDead, retryDead } = await import("../operate/dead.ts");
  await using db = await openDatabase(o, "dead");
  const which = o.all ? { all: true as const } : filter;
  const count = await (how === "retry" ? retryDead : discardDead)(db, o.consumer, which);
  if (o.json) {
    await printJson({ consumer: o.consumer, [how === "retry" ? "retried" : "discarded"]: count });
  } else {
    await print(
      `${countText(count, "dead letter")} of "${visible(o.consumer)}" ${
        how === "retry" ? "to be handled again" : "removed"
      }`,
    );
  }
  return 0;
}
