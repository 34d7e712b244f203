/**
 * `hark resume`: go on with a consumer that was paused.
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

/** `hark resume`. */
export const resume: Parser<"sync", Action, unknown> = command(
  "resume",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Go on with a consumer that was paused."),
    description: plainText(
      "Its workers go on where they were. One that was not paused stays as it is.",
    ),
    footer: examplesFooter(["hark resume billing", "after: hark pause billing"]),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { resume } = await import("../operate/pause.ts");
  await using db = await openDatabase(o, "resume");
  const changed = await resume(db, o.consumer);
  if (o.json) await printJson({ consumer: o.consumer, changed });
  else await print(`"${visible(o.consumer)}" ${changed ? "goes on" : "was not paused"}`);
  return 0;
}
