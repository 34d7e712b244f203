/**
 * `hark wake`: wakes consumers that sleep, over HTTP.
 *
 * @module
 */

import { longestTimer } from "../duration.ts";
import { localCommand } from "./args/command.ts";
import { json, needed, refuse, words } from "./args/options.ts";
import { surroundings } from "./process/surroundings.ts";
import { maybeDuration } from "./args/values.ts";

const secretVariable = "HARK_WAKE_SECRET";

/** `hark wake`. */
export const wake = localCommand({
  name: "wake",
  brief: "Wake consumers that sleep, by a request.",
  description:
    "Posts a signed request to a program whose consumers sleep, or that is not running until it is asked. " +
    `The secret is read from ${secretVariable}: whsec_ and 24 to 64 bytes in base64. Consumers that hear ` +
    "NOTIFY need no such request.",
  examples: [
    ["hark wake --to https://billing.example/wake", "all consumers of the program"],
  ],
  options: {
    to: needed("--to", words("URL"), "The URL of a program's wakeHandler."),
    timeout: maybeDuration("--timeout", "How long to wait for the answer. Default: 30s.", {
      least: 1,
      most: longestTimer,
    }),
    json,
  },
  async run({ to, json: _, ...o }) {
    const secret = surroundings().variable(secretVariable);
    if (secret === undefined || secret === "") {
      refuse(`${secretVariable} is not set`, "Set it to the secret of the program's wakeHandler.");
    }
    const { wakeUp } = await import("../edge/wake.ts");
    await wakeUp(to, { secret, ...o });
    return { json: { woken: to }, text: `woken: ${to}` };
  },
});
