/**
 * `hark listen`: runs consumers.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, multiple, optional, withDefault } from "@optique/core/modifiers";
import type { Parser } from "@optique/core/parser";
import { argument, command, option } from "@optique/core/primitives";
import { HarkError } from "../../errors.ts";
import { examplesFooter, plainText } from "../help.ts";
import type { ListenOptions } from "./run_consumers.ts";
import { type Action, database, json, list, number, toggle, words } from "../options.ts";

const options = object({
  modules: multiple(argument(words("MODULE"), {
    description: plainText(
      "A file, a folder (each .ts, .js, .mts, .mjs in it) or a URL. Default: a sample that prints " +
        'what comes on "orders", for the server in .hark/ only.',
    ),
  })),
  consumers: optional(option("--consumers", list("IDS"), {
    description: plainText("Run these only, separated by commas."),
  })),
  excluded: optional(option("--exclude-consumers", list("IDS"), {
    description: plainText("Run all but these."),
  })),
  workers: withDefault(
    option("--workers", number("N", { least: 1, most: 64 }), {
      description: plainText(
        "How many threads run the consumers, 1 (default) to 64: one uses one core. A thread that " +
          "ends is started again. They share the partitions of each consumer.",
      ),
    }),
    1,
  ),
  list: toggle("--list-consumers", "Print what would run, and end."),
  drain: toggle("--drain", "Handle what is there, print how many that was, and end."),
  install: toggle("--init", "Install or upgrade the schema first."),
  ...database,
  json,
});

/** `hark listen`. */
export const listen: Parser<"sync", Action, unknown> = command(
  "listen",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Run consumers."),
    description: plainText(
      "Runs every consumer that the modules export, in one process: classes that extend Consumer, " +
        "objects { id, channels, handle }, or arrays of them. Ctrl-C and SIGTERM let the handler in " +
        "hand finish, store the progress and end with 0. Without any database a server is started " +
        "for this folder, or joined where one runs. A module has the rights of this process, and a " +
        "task's are few: an environment variable it may not read is undefined. For more, list them: " +
        "deno run -P=listen --allow-env=DATABASE_URL,NAME --allow-write=PATH cli.ts listen MODULE",
    ),
    footer: examplesFooter(
      ["hark listen", "the sample consumer"],
      ["hark listen consumers/", "all of a folder"],
      ["hark listen consumers/ --consumers billing,mail", "two of them"],
      ["hark listen consumers/ --workers 4", "on four cores"],
      ["hark listen billing.ts --drain", "from a cron job"],
      ["hark listen consumers/ --list-consumers --json", "what there is"],
    ),
  },
);

async function run(o: ListenOptions): Promise<number> {
  if (o.json && !o.list && !o.drain) {
    throw new HarkError("BAD_OPTION", "--json goes with --list-consumers or --drain", {
      remedy: "What consumers print is theirs.",
    });
  }
  if (o.list && o.drain) {
    throw new HarkError("BAD_OPTION", "--list-consumers and --drain contradict each other", {
      remedy: "Give one of them.",
    });
  }
  if (o.drain && o.workers > 1) {
    throw new HarkError("BAD_OPTION", "--drain and --workers contradict each other", {
      remedy: "--drain works in one thread: leave --workers out.",
    });
  }
  const { runConsumers } = await import("./run_consumers.ts");
  return await runConsumers(o);
}
