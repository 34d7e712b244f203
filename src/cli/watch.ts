/**
 * `hark watch`: publishes the changes of tables.
 *
 * @module
 */

import type { SnapshotOptions, SnapshotResult } from "../changes/snapshot.ts";
import type { WatchResult } from "../changes/watch.ts";
import type { WatchStatus } from "../changes/watches.ts";
import { given } from "../given.ts";
import { commandGroup, databaseCommand, type Values } from "./args/command.ts";
import { maybe, number, refuse, toggle } from "./args/options.ts";
import { printError, printProgress } from "./print/output.ts";
import { stopping } from "./process/signals.ts";
import { driftTable } from "./status.ts";
import { visible } from "./print/style.ts";
import { surroundings } from "./process/surroundings.ts";
import { blocks, tableOf } from "./print/table.ts";
import { ago, countText, named, numberText, shortened } from "./print/text.ts";
import { definition, definitionOf, existing, lockTimeout } from "./watch_options.ts";
import { exitCodes } from "./exit_codes.ts";

const add = databaseCommand({
  name: "watch add",
  brief: "Publish the changes of a table from now on.",
  description:
    "Puts triggers on the table, which its owner may do. With the name of an existing watch it " +
    "replaces that watch's whole definition; repair keeps it. To go on with an interrupted " +
    "snapshot, run the same command again.",
  examples: [
    ["hark watch add public.users", "every change, old and new rows"],
    ["hark watch add users --exclude password --if-changed any", "some columns, some updates"],
    ["hark watch add users --on insert --when 'new.age > 17'", "some rows"],
    ["hark watch add users --snapshot", "with the existing rows"],
  ],
  options: {
    ...definition,
    snapshot: toggle("--snapshot", "Also publish the existing rows, as SNAPSHOT."),
    again: toggle("--again", "With --snapshot: start at the first row, even after another one."),
    batchSize: maybe(
      "--batch-size",
      number("N", { least: 1, most: 100_000 }),
      "With --snapshot: how many rows one transaction publishes. Default: 1000.",
    ),
    lockTimeout,
  },
  check(o) {
    if (o.snapshot || !o.again && o.batchSize === undefined) return;
    const option = o.again ? "--again" : "--batch-size";
    refuse(`${option} is about a snapshot`, "Add --snapshot, or leave it out.");
  },
  async run(db, { table, snapshot, again, batchSize, ...defined }, json) {
    const { watch } = await import("../changes/watch.ts");
    using stop = stopping(() => snapshot ? goOn : undefined);
    const onProgress = json ? undefined : progress();
    const result = await watch(db, table, {
      ...definitionOf(defined),
      ...snapshot ? { snapshot: given({ again, signal: stop.signal, batchSize, onProgress }) } : {},
    });
    if (result.snapshot?.done === false) await printError(goOn);
    return { json: result, text: said(result) };
  },
});

/** What to do after a snapshot was interrupted. */
const goOn = "hark: the snapshot is not done; the same command, without --again, goes on with it";

/** Shows how far a snapshot is: on one line of a terminal, or elsewhere on a line every 5 seconds. */
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
  created: "is watched",
  replaced: "is watched by a new definition",
  unchanged: "was watched like this already",
} as const;

function said({ table, name, channel, outcome, level, reason, snapshot }: WatchResult): string {
  const { stdout, stderr } = surroundings();
  const clear = snapshot !== undefined && stderr.isTerminal() && stdout.isTerminal()
    ? "\r\x1b[K"
    : "";
  return [
    `${clear}${visible(table)} ${outcomes[outcome]}${
      name === "watch" ? "" : ` as ${named(name)}`
    }, on channel ${named(channel)}`,
    ...(level === "statement" ? [] : [
      `its triggers run for each row${reason === null ? "" : `: ${visible(reason)}`}`,
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

const repair = databaseCommand({
  name: "watch repair",
  brief: "Make the triggers of a watch again, by its definition.",
  description:
    "For a watch that has drifted, as list and hark status show. It keeps the channel and the " +
    "options, and uses the names that the columns have now.",
  examples: [["hark watch repair public.users", "after a column was added"]],
  options: existing,
  async run(db, o) {
    const { rewatch } = await import("../changes/watch.ts");
    const { table, ...which } = o;
    const outcome = await rewatch(db, table, which);
    return {
      json: { table, name: o.name ?? "watch", outcome },
      text: `${watched(o)} ${outcome === "replaced" ? "is repaired" : "needs no repair"}`,
    };
  },
});

const remove = databaseCommand({
  name: "watch remove",
  brief: "Stop publishing the changes of a table.",
  description:
    "Removes the triggers. Published notifications stay. If there is no such watch, the exit code is 1.",
  examples: [
    ["hark watch remove public.users", "its watch"],
    ["hark watch remove public.users --name audit", "one of several"],
  ],
  options: existing,
  async run(db, o) {
    const { unwatch } = await import("../changes/watch.ts");
    const { table, ...which } = o;
    const removed = await unwatch(db, table, which);
    return {
      json: { table, name: o.name ?? "watch", removed },
      text: `${watched(o)} ${removed ? "is no longer watched" : "was not watched"}`,
      code: removed ? exitCodes.ok : exitCodes.failed,
    };
  },
});

function watched({ table, name }: Values<typeof existing>): string {
  return `${visible(table)}${name === undefined ? "" : ` as ${named(name)}`}`;
}

const list = databaseCommand({
  name: "watch list",
  brief: "Show the watched tables, and which watches have drifted.",
  examples: [
    ["hark watch list", "for people"],
    ["hark watch list --json | jq '.[] | select(.drift != [])'", "for a program"],
  ],
  async run(db) {
    const { watches } = await import("../changes/watches.ts");
    const found = await watches(db);
    return { json: found, text: listText(found) };
  },
});

function listText(found: readonly WatchStatus[]): string {
  return blocks(
    tableOf(
      found,
      "table, watch, channel, on, payload, key, triggers, snapshot, state",
      (one) => [
        one.table,
        one.name,
        shortened(one.channel),
        one.operations.length === 4 ? "all" : one.operations.join(", "),
        one.payload,
        one.key.length === 0 ? "-" : shortened(one.key.join(", ")),
        one.level,
        snapshotState(one),
        one.drift.length === 0
          ? "ok"
          : one.exists
          ? { text: "drifted", style: "yellow" }
          : { text: "gone", style: "red" },
      ],
      "no table is watched",
    ),
    driftTable(found),
  );
}

function snapshotState({ snapshotDoneAt, snapshotCount }: WatchStatus): string {
  if (snapshotDoneAt !== null) return `done ${ago(snapshotDoneAt)}`;
  return snapshotCount === 0 ? "-" : `${numberText(snapshotCount)}, not done`;
}

const sql = databaseCommand({
  name: "watch sql",
  brief: "Print the SQL that add would run, and change nothing.",
  examples: [
    ["hark watch sql public.users --payload key", "to read it first"],
    ["hark watch sql public.users --down", "the other direction of a migration"],
  ],
  options: {
    ...definition,
    down: toggle(
      "--down",
      "Print the SQL that takes it back instead. Of the other options only --name counts.",
    ),
  },
  async run(db, { table, down, ...defined }) {
    const { unwatchSql, watchSql } = await import("../changes/watch_sql.ts");
    const script = down
      ? await unwatchSql(db, table, given({ name: defined.name }))
      : await watchSql(db, table, definitionOf(defined));
    const text = script.trimEnd();
    return { json: { sql: text }, text };
  },
});

/** `hark watch`. */
export const watch = commandGroup({
  name: "watch",
  brief: "Publish the changes of a table.",
  description:
    "Each insert, update and delete is published in the transaction that makes it, whatever program " +
    "makes it.",
  examples: [
    ["hark watch add public.users", "publish its changes on public.users"],
    ["hark watch list", "the watched tables"],
    ["hark watch remove public.users", "stop"],
  ],
}, { add, repair, remove, list, sql });
