/**
 * `hark cleanup`: removes old notifications.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, option } from "@optique/core/primitives";
import type { CleanupProgress, CleanupResult } from "../operate/cleanup.ts";
import { ago, holdingText, quoted } from "./consumer.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, number, toggle } from "./options.ts";
import {
  bytesText,
  countText,
  numberText,
  print,
  printJson,
  printProgress,
  visible,
} from "./output.ts";
import { surroundings } from "./surroundings.ts";

const options = object({
  days: option("--days", number("DAYS", { least: 0, most: 100_000, whole: false }), {
    description: plainText("Remove what was published longer ago; fractions are allowed."),
  }),
  dryRun: toggle("--dry-run", "Remove nothing, say what would be removed."),
  force: toggle("--force", "Also remove what a consumer has not read: it will never see it."),
  dropInactive: optional(
    option("--drop-inactive", number("DAYS", { least: 0, most: 100_000, whole: false }), {
      description: plainText(
        "First remove the consumers that no worker has served for so long, with their dead letters.",
      ),
    }),
  ),
  exact: toggle(
    "--exact",
    "Look at each old one. Else more than 50,000 stay where their part of the log is not wholly old.",
  ),
  batch: optional(option("--batch", number("N", { least: 1, most: 1_000_000 }), {
    description: plainText("How many notifications one transaction looks at. Default: 10000."),
  })),
  ...database,
  json,
});

/** `hark cleanup`. */
export const cleanup: Parser<"sync", Action, unknown> = command(
  "cleanup",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Remove old notifications that everybody has read."),
    description: plainText(
      "Removes notifications older than a number of days, once every consumer has passed them. What " +
        "a consumer has not passed is kept, and said. Run it as the schema's owner, or as a role with hark.grant_operate, from cron or by hand.",
    ),
    footer: examplesFooter(
      ["hark cleanup --days 30", "keep a month"],
      ["hark cleanup --days 30 --dry-run", "say what would be removed"],
      [
        "hark cleanup --days 30 --drop-inactive 90",
        "and consumers that nobody has run for 90 days",
      ],
      ["hark cleanup --days 0.5 --json", "keep half a day, tell a program"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { cleanup } = await import("../operate/cleanup.ts");
  const { stopping } = await import("./signals.ts");
  using stop = stopping();
  await using db = await openDatabase(o, "cleanup");
  const progress = surroundings().stderr.isTerminal() && !o.json;
  const result = await cleanup(db, {
    olderThan: o.days,
    dryRun: o.dryRun,
    force: o.force,
    exact: o.exact,
    ...(o.batch === undefined ? {} : { batch: o.batch }),
    ...(o.dropInactive === undefined ? {} : { dropInactive: o.dropInactive }),
    signal: stop.signal,
    onProgress: (now) => progress ? show(now) : undefined,
  });
  if (progress) await printProgress("");
  if (o.json) await printJson(forPrograms(result));
  else for (const line of lines(result)) await print(line);
  return 0;
}

async function show({ removed, kept }: CleanupProgress): Promise<void> {
  await printProgress(`${numberText(removed)} so far, ${numberText(kept)} kept`);
}

/** A dry run has no fields "removed" and "dropped": it removed nothing. */
function forPrograms(result: CleanupResult): object {
  if (!result.dryRun) return result;
  const { removed: wouldRemove, dropped: wouldDrop, ...rest } = result;
  return { wouldRemove, wouldDrop, ...rest };
}

function lines(result: CleanupResult): string[] {
  const { removed, bytes, kept, keptFor, dropped, dryRun, cutoff, complete, more } = result;
  const gone = keptFor.find(({ reasons }) => reasons.includes("inactive"));
  return [
    ...dropped.map(({ consumer, lastServed }) =>
      `${dryRun ? "would remove" : "removed"} consumer "${
        visible(consumer)
      }" and its dead letters, last served ${ago(lastServed)}`
    ),
    `${dryRun ? "would remove" : "removed"} ${countText(removed, "notification")} (${
      bytesText(bytes)
    }) published before ${cutoff.toISOString()}`,
    ...(kept === 0 ? [] : [
      `kept ${numberText(kept)} that are old, as not everybody has passed them: ${
        keptFor.map(holdingText).join(", ") || "nobody any more"
      }`,
    ]),
    ...(more
      ? [
        "more than 50,000 old ones stay until the part of the log that they are in is wholly old and passed by " +
        `everybody${
          keptFor.length === 0 ? "" : ` (${keptFor.map(holdingText).join(", ")})`
        }; --exact looks at each`,
      ]
      : []),
    ...(gone === undefined ? [] : [
      `Run these consumers. Remove one that is gone for good: hark consumers remove ${
        quoted(gone.consumer)
      }`,
    ]),
    ...(keptFor.some(({ reasons }) => reasons.includes("behind"))
      ? ["Or add --force: what they have not read they will never see."]
      : []),
    ...(complete ? [] : ["interrupted; run it again to go on"]),
  ];
}
