/**
 * `hark replay`: has a consumer handle a range once more.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, multiple, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, option } from "@optique/core/primitives";
import { consumer, place } from "./consumer.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, words } from "./options.ts";
import { print, printJson, visible } from "./output.ts";

const options = object({
  consumer,
  from: option("--from", place, {
    description: plainText("The first id, or the time from which on (ISO 8601)."),
  }),
  to: optional(option("--to", place, {
    description: plainText("The last id, or the time until which. Default: the end of the log."),
  })),
  channel: multiple(option("--channel", words("CHANNEL"), {
    description: plainText("Only of this channel. Repeatable. Default: all of the consumer's."),
  })),
  ...database,
  json,
});

/** `hark replay`. */
export const replay: Parser<"sync", Action, unknown> = command(
  "replay",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Have a consumer handle a range once more."),
    description: plainText(
      "Has a consumer handle once more what it has handled already, beside what comes anew. Its " +
        "position stays; what it has not reached yet comes once, in its turn.",
    ),
    footer: examplesFooter(
      ["hark replay billing --from 1000 --to 2000", "a range of ids"],
      ["hark replay billing --from 2026-11-21T10:00:00Z --channel orders", "since a time"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { replay } = await import("../operate/seek.ts");
  await using db = await openDatabase(o, "replay");
  const number = await replay(db, o.consumer, {
    from: o.from,
    ...(o.to === undefined ? {} : { to: o.to }),
    ...(o.channel.length === 0 ? {} : { channels: o.channel }),
  });
  if (o.json) await printJson({ consumer: o.consumer, replay: number });
  else if (number === null) await print("nothing was published in that time");
  else await print(`replay ${number} of "${visible(o.consumer)}" begins as soon as a worker looks`);
  return 0;
}
