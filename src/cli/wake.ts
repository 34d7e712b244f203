/**
 * `hark wake`: wakes consumers that sleep, over HTTP.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { longestTimer } from "../duration.ts";
import { describedCommand, given } from "./command.ts";
import { json, maybe, needed, refuse, words } from "./options.ts";
import { print, printJson } from "./output.ts";
import { surroundings } from "./surroundings.ts";
import { duration } from "./values.ts";

const secretVariable = "HARK_WAKE_SECRET";

const options = object({
  to: needed("--to", words("URL"), "The URL of a program's wakeHandler."),
  timeout: maybe(
    "--timeout",
    duration("--timeout", { least: 1, most: longestTimer }),
    "How long to wait for the answer. Default: 30s.",
  ),
  json,
});

/** `hark wake`. */
export const wake = describedCommand(
  {
    name: "wake",
    brief: "Wake consumers that sleep, by a request.",
    description:
      "Posts a signed request to a program whose consumers sleep, or that is not running until it is asked. " +
      `The secret is read from ${secretVariable}: whsec_ and 24 to 64 bytes in base64. Consumers that hear ` +
      "NOTIFY need no such request.",
    examples: [
      ["hark wake --to https://billing.example/wake", "all consumers of the program"],
    ],
  },
  options,
  async ({ to, timeout, json }) => {
    const secret = surroundings().variable(secretVariable);
    if (secret === undefined || secret === "") {
      refuse(`${secretVariable} is not set`, "Set it to the secret of the program's wakeHandler.");
    }
    const { wakeUp } = await import("../edge/wake.ts");
    await wakeUp(to, {
      secret,
      ...given({ timeout: timeout === undefined ? undefined : Math.ceil(timeout) }),
    });
    if (json) await printJson({ woken: to });
    else await print(`woken: ${to}`);
    return 0;
  },
);
