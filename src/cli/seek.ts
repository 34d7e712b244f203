/**
 * `hark seek`: moves a consumer.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { argument, command } from "@optique/core/primitives";
import type { StartFrom } from "../consume/start.ts";
import { consumer, place } from "./consumer.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, kind } from "./options.ts";
import { countText, print, printJson, visible } from "./output.ts";

const target = kind<StartFrom | "end">("TO", "now", (input) => {
  if (input === "beginning" || input === "now" || input === "end") return input;
  const result = place.parse(input);
  if (result.success) {
    return result.value instanceof Date ? { time: result.value } : { id: result.value };
  }
  throw new Error(
    `TO is ${JSON.stringify(input)}. ` +
      "Give beginning, now, an id such as 42, or a time such as 2026-11-21T10:00:00Z.",
  );
});

const options = object({
  consumer,
  to: argument(target, {
    description: plainText("beginning, now (or end), an id, or a time (ISO 8601)."),
  }),
  ...database,
  json,
});

/** `hark seek`. */
export const seek: Parser<"sync", Action, unknown> = command(
  "seek",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Move a consumer back, or forward."),
    description: plainText(
      "From there on everything is delivered, again or for the first time, and nothing before. What " +
        "waited to be tried again and does not come from there becomes a dead letter. Its workers may " +
        "run meanwhile. To deliver a part once more without moving: hark replay.",
    ),
    footer: examplesFooter(
      ["hark seek billing beginning", "all over again"],
      ["hark seek billing now", "skip what is there"],
      ["hark seek billing 2026-11-21T10:00:00Z", "from a time on"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { seek } = await import("../operate/seek.ts");
  await using db = await openDatabase(o, "seek");
  const { givenUp } = await seek(db, o.consumer, o.to);
  if (o.json) await printJson({ consumer: o.consumer, to: o.to, givenUp });
  else {
    await print(
      `"${visible(o.consumer)}" begins ${said(o.to)}` +
        (givenUp === 0
          ? ""
          : `; ${countText(givenUp, "notification")} that waited became dead letters`),
    );
  }
  return 0;
}

function said(to: StartFrom | "end"): string {
  if (typeof to === "string") return to === "beginning" ? "at the beginning" : "at the end, now";
  return "id" in to ? `at id ${to.id}` : `at ${to.time.toISOString()}`;
}
