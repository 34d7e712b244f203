/**
 * `hark channels`: describe the typed channels of modules, and compare them with an older program's.
 *
 * @module
 */

import { multiple } from "@optique/core/modifiers";
import { commandGroup, localCommand } from "./args/command.ts";
import { exitCodes } from "./exit_codes.ts";
import { json, needed, positional, refuse, words } from "./args/options.ts";
import { print, printError } from "./print/output.ts";

const modules = multiple(
  positional(
    words("MODULE"),
    "A file, a folder (each .ts, .js, .mts, .mjs in it) or a URL, which exports channels.",
  ),
  { min: 1 },
);

const show = localCommand({
  name: "channels show",
  brief: "Print typed channels as AsyncAPI 3.",
  description:
    "Prints every typed channel that the modules export as one AsyncAPI 3 document, in JSON: each " +
    "version is a message, with what its schema takes as JSON Schema. It needs no database.",
  examples: [
    ["hark channels channels.ts > channels.json", "keep it beside the code"],
    ["hark channels show src/channels/", "all modules of a folder"],
  ],
  options: { modules },
  async run(o) {
    const { describe } = await import("./describe_channels.ts");
    // Indented, to be kept beside the code and compared.
    await print(JSON.stringify(await describe(o.modules), null, 2));
    return exitCodes.ok;
  },
});

const check = localCommand({
  name: "channels check",
  brief: "Fail if typed channels have changed incompatibly.",
  description:
    "Compares the typed channels of the modules with an older description. A change is " +
    "incompatible if the new program may be unable to read what is stored, or if workers of the old " +
    "one may fail on what the new one publishes. It names each such change and exits with 1. It " +
    "needs no database.",
  examples: [
    ["hark channels check --against channels.json channels.ts", "before a deployment"],
  ],
  options: {
    against: needed("--against", words("FILE"), "What hark channels has printed before."),
    modules,
    json,
  },
  async run(o) {
    const { describe } = await import("./describe_channels.ts");
    const { compare } = await import("../channels/compare.ts");
    const found = compare(await older(o.against), await describe(o.modules));
    const { incompatible, unknown } = found;
    if (!o.json) { for (const one of unknown) await printError(`hark: ${one}`); }
    return {
      json: found,
      text: incompatible.length === 0 ? "no channel has changed incompatibly" : [
        ...incompatible,
        "To change a schema, give the channel a new version: channel(name, New).from(Old, upgrade)",
      ].join("\n"),
      code: incompatible.length === 0 ? exitCodes.ok : exitCodes.failed,
    };
  },
});

async function older(path: string): Promise<unknown> {
  let trouble = "cannot be read";
  try {
    const text = await Deno.readTextFile(path);
    trouble = "is not JSON";
    return JSON.parse(text);
  } catch (error) {
    return refuse(
      `${path} ${trouble}: ${(error as Error).message}`,
      "Give a file that hark channels has written: hark channels MODULE > channels.json",
    );
  }
}

/** `hark channels`. */
export const channels = commandGroup(
  {
    name: "channels",
    brief: "Describe typed channels, and compare them with an older program's.",
    description: "hark channels MODULE is short for hark channels show MODULE.",
    examples: [
      ["hark channels channels.ts > channels.json", "describe them, as AsyncAPI 3"],
      ["hark channels check --against channels.json channels.ts", "fail on an incompatible change"],
    ],
  },
  { show, check },
);
