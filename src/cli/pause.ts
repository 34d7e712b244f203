/**
 * `hark pause` and `hark resume`: stop delivery to a consumer for a while, and go on.
 *
 * @module
 */

import { databaseCommand } from "./args/command.ts";
import { consumer } from "./args/options.ts";
import { named } from "./print/text.ts";

/** `hark pause`. */
export const pause = databaseCommand({
  name: "pause",
  brief: "Stop delivery to a consumer for a while.",
  description:
    "Its workers finish the handlers that run and start no others until hark resume. Nothing is " +
    "lost: cleanup keeps what is unread.",
  examples: [["hark pause billing", "until: hark resume billing"]],
  options: { consumer },
  async run(db, o) {
    const { pause } = await import("../operate/pause.ts");
    const changed = await pause(db, o.consumer);
    const text = `${named(o.consumer)} ${changed ? "is paused" : "was paused already"}`;
    return { json: { consumer: o.consumer, changed }, text };
  },
});

/** `hark resume`. */
export const resume = databaseCommand({
  name: "resume",
  brief: "Resume delivery to a paused consumer.",
  description: "Its workers go on from where they were.",
  examples: [["hark resume billing", "after: hark pause billing"]],
  options: { consumer },
  async run(db, o) {
    const { resume } = await import("../operate/pause.ts");
    const changed = await resume(db, o.consumer);
    const text = `${named(o.consumer)} ${changed ? "is resumed" : "was not paused"}`;
    return { json: { consumer: o.consumer, changed }, text };
  },
});
