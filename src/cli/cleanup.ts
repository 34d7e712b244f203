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
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, number, toggle } from "./options.ts";
import { bytesText, countText, numberText, print, printJson, visible } from "./output.ts";

const options = object({
  days: option("--days", number("DAYS", { least: 0, most: 100_000, whole: false }), {
    description: plainText("Remove what was published longer ago; fractions are allowed."),
  }),
  dryRun: toggle("--dry-run", "Remove nothing, say what would be removed."),
  force: toggle("--force", "Also remove what a consumer has not read: it will never see it."),
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
        "a consumer has not passed is kept, and said. Run it as the schema's owner, from cron or by hand.",
    ),
    footer: examplesFooter(
      ["hark cleanup --days 30", "keep a month"],
      ["hark cleanup --days 30 --dry-run", "say what would be removed"],
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
  const progress = Deno.stderr.isTerminal() && !o.json;
  const result = await cleanup(db, {
    olderThan: o.days,
    dryRun: o.dryRun,
    force: o.force,
    ...(o.batch === undefined ? {} : { batch: o.batch }),
    signal: stop.signal,
    onProgress: (now) => progress ? show(now) : undefined,
  });
  if (progress) await Deno.stderr.write(new TextEncoder().encode("\r\x1b[K"));
  if (o.json) await printJson(forPrograms(result));
  else for (const line of lines(result)) await print(line);
  return 0;
}

async function show({ removed, kept }: CleanupProgress): Promise<void> {
  const text = `\r\x1b[K${numberText(removed)} so far, ${numberText(kept)} kept`;
  await Deno.stderr.write(new TextEncoder().encode(text));
}

/** A dry run has no field "removed": it removed nothing. */
function forPrograms(result: CleanupResult): object {
  if (!result.dryRun) return result;
  const { removed: wouldRemove, ...rest } = result;
  return { wouldRemove, ...rest };
}

function lines(result: CleanupResult): string[] {
  const { removed, bytes, kept, keptFor, dryRun, cutoff, complete } = result;
  return [
    `${dryRun ? "would remove" : "removed"} ${countText(removed, "notification")} (${
      bytesText(bytes)
    }) published before ${cutoff.toISOString()}`,
    ...(kept === 0 ? [] : [
      `kept ${numberText(kept)} that are old, as not everybody has passed them: ${
        keptFor.map(({ consumer, oldest }) => `"${visible(consumer)}" (at ${oldest.toISOString()})`)
          .join(", ") || "nobody any more"
      }`,
    ]),
    ...(keptFor[0] === undefined ? [] : [
      "Run these consumers. Remove one that is gone for good, as the schema's owner: " +
      `select hark.remove_consumer(${literal(keptFor[0].consumer)})`,
      "Or add --force: what they have not read they will never see.",
    ]),
    ...(complete ? [] : ["interrupted; run it again to go on"]),
  ];
}

/** A string as SQL has it. */
function literal(text: string): string {
  return `'${visible(text).replaceAll("'", "''")}'`;
}
