/**
 * `hark watch`: publishes the changes of tables.
 *
 * @module
 */

import { object, or } from "@optique/core/constructs";
import { map, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, option } from "@optique/core/primitives";
import type { SnapshotOptions, SnapshotResult } from "../changes/snapshot.ts";
import type { WatchResult } from "../changes/watch.ts";
import type { WatchStatus } from "../changes/watches.ts";
import { HarkError } from "../errors.ts";
import { ago, secondWord, shortened } from "./consumer.ts";
import {
  definition,
  definitionOf,
  lockOption,
  lockTimeout,
  name,
  relation,
} from "./watch_options.ts";
import { driftLines } from "./drift.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, number, toggle } from "./options.ts";
import {
  countText,
  numberText,
  print,
  printError,
  printJson,
  printProgress,
  table,
  visible,
} from "./output.ts";
import { surroundings } from "./surroundings.ts";

const addOptions = object({
  ...definition,
  snapshot: toggle("--snapshot", "Also publish the rows that are there, as SNAPSHOT."),
  again: toggle("--again", "With --snapshot: from the first row, though it was begun or done."),
  batchSize: optional(option("--batch-size", number("N", { least: 1, most: 100_000 }), {
    description: plainText(
      "With --snapshot: how many rows a transaction publishes. Default: 1000.",
    ),
  })),
  lockTimeout,
  ...database,
  json,
});
const removeOptions = object({ table: relation, name, lockTimeout, ...database, json });
const listOptions = object({ ...database, json });
const sqlOptions = object({ ...definition, ...database });

/** `hark watch`. */
export const watch: Parser<"sync", Action, unknown> = command(
  "watch",
  or(
    command("add", map(addOptions, (o) => () => add(o)), {
      brief: plainText("Publish the changes of a table from now on."),
      description: plainText(
        "Puts triggers on the table, which needs its owner. Again under the same name it replaces what " +
          "was told before, all of it; repair keeps it. A snapshot that was interrupted goes on " +
          "with the same command.",
      ),
      footer: examplesFooter(
        ["hark watch add public.users", "every change, old and new rows"],
        ["hark watch add users --exclude password --if-changed any", "some columns, some updates"],
        ["hark watch add users --on insert --when 'new.age > 17'", "some rows"],
        ["hark watch add users --snapshot", "with the rows that are there"],
      ),
    }),
    command("repair", map(removeOptions, (o) => () => repair(o)), {
      brief: plainText("Make the triggers of a watch anew, as it was told."),
      description: plainText(
        "For a watch that has drifted, as list and hark status say: with its channel and options, and the " +
          "names that the columns have now.",
      ),
      footer: examplesFooter(["hark watch repair public.users", "after a column was added"]),
    }),
    command("remove", map(removeOptions, (o) => () => remove(o)), {
      brief: plainText("Stop publishing the changes of a table."),
      description: plainText("Removes the triggers. What is published stays."),
      footer: examplesFooter(
        ["hark watch remove public.users", "its watch"],
        ["hark watch remove public.users --name audit", "one of several"],
      ),
    }),
    command("list", map(listOptions, (o) => () => list(o)), {
      brief: plainText("Show what is watched, and what is not as it should be any more."),
      footer: examplesFooter(
        ["hark watch list", "for people"],
        ["hark watch list --json | jq '.[] | select(.drift != [])'", "for a program"],
      ),
    }),
    command("sql", map(sqlOptions, (o) => () => script(o)), {
      brief: plainText("Print the SQL that add would run, and change nothing."),
      footer: examplesFooter(["hark watch sql public.users --payload key", "to read it first"]),
    }),
    { errors: secondWord("watch", ["add", "repair", "remove", "list", "sql"]) },
  ),
  {
    brief: plainText("Publish the changes of a table: add, remove, list, or show the SQL."),
    description: plainText(
      "Each insert, update and delete is published in the transaction that makes it, whatever program " +
        "that is.",
    ),
    footer: examplesFooter(
      ["hark watch add public.users", "publish its changes on public.users"],
      ["hark watch list", "what is watched"],
      ["hark watch remove public.users", "no more"],
    ),
  },
);

async function add(o: InferValue<typeof addOptions>): Promise<number> {
  if (!o.snapshot && (o.again || o.batchSize !== undefined)) {
    throw new HarkError(
      "BAD_OPTION",
      `${o.again ? "--again" : "--batch-size"} is about a snapshot`,
      {
        remedy: "Add --snapshot, or leave it out.",
      },
    );
  }
  const { openDatabase } = await import("./database.ts");
  const { watch } = await import("../changes/watch.ts");
  const { stopping } = await import("./signals.ts");
  using stop = stopping(() => o.snapshot ? goOn() : undefined);
  await using db = await openDatabase(o, "watch");
  const snapshot: SnapshotOptions = {
    again: o.again,
    ...(o.batchSize === undefined ? {} : { batchSize: o.batchSize }),
    ...(o.json ? {} : { onProgress: progress() }),
    signal: stop.signal,
  };
  const result = await watch(db, o.table, {
    ...definitionOf(o),
    ...lockOption(o.lockTimeout),
    ...(o.snapshot ? { snapshot } : {}),
  });
  if (o.json) await printJson(result);
  else await print(said(result));
  if (result.snapshot?.done === false) await printError(goOn());
  return 0;
}

/** What is to be done once a snapshot was interrupted. */
function goOn(): string {
  return "hark: the snapshot is not done; the same command, without --again, goes on with it";
}

/** Tells how far a snapshot is: in one line on a terminal, else in a line every few seconds. */
function progress(): NonNullable<SnapshotOptions["onProgress"]> {
  const isTerminal = surroundings().stderr.isTerminal();
  let told = performance.now();
  return async ({ published, estimate }) => {
    const of = estimate === undefined
      ? ""
      : ` of about ${numberText(Math.max(estimate, published))}`;
    const text = `snapshot: ${numberText(published)}${of} rows published`;
    if (isTerminal) return await printProgress(text);
    if (performance.now() - told < 5000) return;
    told = performance.now();
    await printError(text);
  };
}

const outcomes = {
  created: "is watched now",
  replaced: "is watched anew",
  unchanged: "was watched like this already",
} as const;

function said({ table, name, channel, outcome, level, reason, snapshot }: WatchResult): string {
  const { stdout, stderr } = surroundings();
  const clear = snapshot !== undefined && stderr.isTerminal() && stdout.isTerminal()
    ? "\r\x1b[K"
    : "";
  return [
    `${clear}${visible(table)} ${outcomes[outcome]}${
      name === "watch" ? "" : ` as "${visible(name)}"`
    }, on channel "${visible(channel)}"`,
    ...(level === "statement" ? [] : [
      `triggers for each row${reason === null ? "" : `: ${visible(reason)}`}`,
    ]),
    ...(snapshot === undefined ? [] : [snapshotText(snapshot)]),
  ].join("\n");
}

function snapshotText({ published, total, done }: SnapshotResult): string {
  if (published === 0 && done && total > 0) {
    return `snapshot: done before, ${countText(total, "row")} published; --again repeats it`;
  }
  return `snapshot: ${countText(published, "row")} published${
    total === published ? "" : `, ${numberText(total)} in all`
  }${done ? "" : ", not done"}`;
}

async function remove(o: InferValue<typeof removeOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { unwatch } = await import("../changes/watch.ts");
  await using db = await openDatabase(o, "watch");
  const removed = await unwatch(db, o.table, {
    ...(o.name === undefined ? {} : { name: o.name }),
    ...lockOption(o.lockTimeout),
  });
  const which = `${visible(o.table)}${o.name === undefined ? "" : ` as "${visible(o.name)}"`}`;
  if (o.json) await printJson({ table: o.table, name: o.name ?? "watch", removed });
  else await print(removed ? `${which} is not watched any more` : `${which} was not watched`);
  return 0;
}

async function repair(o: InferValue<typeof removeOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { rewatch } = await import("../changes/watch.ts");
  await using db = await openDatabase(o, "watch");
  const outcome = await rewatch(db, o.table, {
    ...(o.name === undefined ? {} : { name: o.name }),
    ...lockOption(o.lockTimeout),
  });
  const which = `${visible(o.table)}${o.name === undefined ? "" : ` as "${visible(o.name)}"`}`;
  if (o.json) await printJson({ table: o.table, name: o.name ?? "watch", outcome });
  else {
    await print(
      outcome === "replaced" ? `${which} is watched as before` : `${which} needs no repair`,
    );
  }
  return 0;
}

async function list(o: InferValue<typeof listOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { watches } = await import("../changes/watches.ts");
  await using db = await openDatabase(o, "watch");
  const found = await watches(db);
  if (o.json) await printJson(found);
  else if (found.length === 0) await print("no table is watched");
  else {
    await print(table(
      ["table", "name", "channel", "on", "payload", "key", "triggers", "snapshot", "state"],
      found.map((one) => [
        one.table,
        one.name,
        shortened(one.channel),
        one.operations.length === 4 ? "all" : one.operations.join(", "),
        one.payload,
        one.key.length === 0 ? "-" : shortened(one.key.join(", ")),
        one.level,
        snapshotState(one),
        one.drift.length === 0 ? "ok" : one.exists ? "drifted" : "gone",
      ]),
    ));
    for (const line of driftLines(found)) await print(line);
  }
  return 0;
}

function snapshotState({ snapshotDoneAt, snapshotCount }: WatchStatus): string {
  if (snapshotDoneAt !== null) return `done ${ago(snapshotDoneAt)}`;
  return snapshotCount === 0 ? "-" : `${numberText(snapshotCount)}, not done`;
}

async function script(o: InferValue<typeof sqlOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { watchSql } = await import("../changes/watch.ts");
  await using db = await openDatabase(o, "watch");
  await print((await watchSql(db, o.table, definitionOf(o))).trimEnd());
  return 0;
}
