/**
 * `hark cleanup`: removes old notifications.
 *
 * @module
 */

import { ageBounds } from "../duration.ts";
import type { CleanupProgress, CleanupResult } from "../operate/cleanup.ts";
import { databaseCommand } from "./args/command.ts";
import { maybe, needed, number, toggle } from "./args/options.ts";
import { printProgress } from "./print/output.ts";
import { stopping } from "./process/signals.ts";
import { holdingTable } from "./status.ts";
import { surroundings } from "./process/surroundings.ts";
import { blocks, facts, tableOf } from "./print/table.ts";
import { ago, bytesText, countText, numberText, shellWord, timeText } from "./print/text.ts";
import { duration, maybeDuration } from "./args/values.ts";

/** `hark cleanup`. */
export const cleanup = databaseCommand({
  name: "cleanup",
  brief: "Remove old notifications that every consumer has read.",
  description: "Removes notifications older than a time, once every consumer has passed them. It " +
    "keeps what a consumer has not passed, and shows that consumer. Run it by hand or from cron, " +
    "as the schema's owner or as a role with hark.grant_operate.",
  examples: [
    ["hark cleanup --older-than 30d", "keep a month"],
    ["hark cleanup --older-than 30d --dry-run", "show what would be removed"],
    ["hark cleanup --older-than 30d --drop-inactive 90d", "and consumers unused for 90 days"],
    ["hark cleanup --older-than 12h --json", "keep half a day, for a program"],
  ],
  options: {
    olderThan: needed(
      "--older-than",
      duration("--older-than", ageBounds),
      "Remove what was published longer ago: 12h, 30d.",
    ),
    dryRun: toggle("--dry-run", "Remove nothing; show what would be removed."),
    force: toggle(
      "--force",
      "Also remove what a consumer has not read. It will never see it. What waits for a retry stays.",
    ),
    dropInactive: maybeDuration(
      "--drop-inactive",
      "First remove consumers that no worker has served for this long, and their dead letters.",
      ageBounds,
    ),
    exact: toggle(
      "--exact",
      "Check each old notification. By default, if more than 50,000 lie in segments of the log " +
        "that are not wholly old, these stay.",
    ),
    batch: maybe(
      "--batch",
      number("N", { least: 1, most: 1_000_000 }),
      "How many notifications one transaction checks. Default: 10000.",
    ),
  },
  async run(db, o, json) {
    const { cleanup } = await import("../operate/cleanup.ts");
    using stop = stopping();
    const progress = surroundings().stderr.isTerminal() && !json;
    const result = await cleanup(db, {
      ...o,
      signal: stop.signal,
      onProgress: (now) => progress ? show(now) : undefined,
    });
    if (progress) await printProgress("");
    return { json: forPrograms(result), text: text(result, o.force) };
  },
});

async function show({ removed, kept }: CleanupProgress): Promise<void> {
  await printProgress(`removed ${numberText(removed)} so far, kept ${numberText(kept)}`);
}

/** A dry run has no fields "removed" and "dropped": it has removed nothing. */
function forPrograms(result: CleanupResult): object {
  if (!result.dryRun) return result;
  const { removed: wouldRemove, dropped: wouldDrop, ...rest } = result;
  return { wouldRemove, wouldDrop, ...rest };
}

function text(result: CleanupResult, force: boolean): string {
  const { removed, bytes, kept, keptFor, dropped, dryRun, cutoff, complete, more } = result;
  const gone = keptFor.find(({ reasons }) => reasons.includes("inactive"));
  const waits = keptFor.find(({ reasons }) => reasons.includes("waiting"));
  const replays = keptFor.find(({ reasons }) => reasons.includes("replaying"));
  const remedies = [
    gone === undefined
      ? ""
      : "Start these consumers: then each also passes what is not of its channels. " +
        "Remove one that is gone for good: " +
        `hark consumers remove ${shellWord(gone.consumer)}`,
    !force && keptFor.some(({ reasons }) => reasons.includes("behind"))
      ? "To remove what they have not passed, add --force: they never see what is of their channels."
      : "",
    waits === undefined
      ? ""
      : "What waits for a retry stays, with --force too. Let it succeed, or give it up: " +
        `hark discard ${shellWord(waits.consumer)} --all --waiting`,
    replays === undefined
      ? ""
      : "What is to be replayed stays, with --force too, until a worker has done it.",
    more ? "To check each old notification, add --exact." : "",
    complete ? "" : "It was interrupted. Run it again to go on.",
  ];
  return blocks(
    tableOf(
      dropped,
      `${dryRun ? "would remove" : "removed"} consumer, last served`,
      ({ consumer, lastServed }) => [consumer, ago(lastServed)],
    ),
    facts([
      ["published before", timeText(cutoff)],
      [
        dryRun ? "would remove" : "removed",
        `${countText(removed, "notification")}, ${bytesText(bytes)}`,
      ],
      [
        "kept",
        more
          ? "more than 50,000 notifications, in segments of the log that are not wholly old and read"
          : kept === 0
          ? "0 notifications"
          : `${countText(kept, "notification")} that ${
            force
              ? `${kept === 1 ? "waits" : "wait"} for a retry or a replay`
              : "not every consumer had passed"
          }`,
      ],
    ]),
    holdingTable(keptFor),
    remedies.filter((one) => one !== "").join("\n"),
  );
}
