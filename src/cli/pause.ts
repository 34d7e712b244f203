/**
 * `hark pause`: stop delivery to a consumer for a while.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command } from "@optique/core/primitives";
import { consumer } from "./consumer.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json } from "./options.ts";
import { print, printJson, visible } from "./output.ts";

const options = object({ consumer, ...database, json });

/** `hark pause`. */
export const pause: Parser<"sync", Action, unknown> = command(
  "pause",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Stop delivery to a consumer for a while."),
    description: plainText(
      "Its workers, wherever they run, finish what they are at and begin nothing new, until hark resume. " +
        "Nothing is lost; what is unread is kept by cleanup.",
    ),
    footer: examplesFooter(["hark pause billing", "until: hark resume billing"]),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { pause } = await import("../operate/pause.ts");
  await using db = await openDatabase(o, "pause");
  const changed = await pause(db, o.consumer);
  if (o.json) await printJson({ consumer: o.consumer, changed });
  else await print(`"${visible(o.consumer)}" ${changed ? "is paused" : "was paused already"}`);
  return 0;
}
