/**
 * `hark listen`: runs consumers.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { multiple, withDefault } from "@optique/core/modifiers";
import { describedCommand } from "../command.ts";
import {
  contradiction,
  database,
  json,
  list,
  maybe,
  needed,
  number,
  positional,
  refuse,
  toggle,
  words,
} from "../options.ts";

const options = object({
  modules: multiple(
    positional(
      words("MODULE"),
      "A file, a folder (each .ts, .js, .mts, .mjs in it) or a URL. Default: a sample that prints " +
        'the notifications of "orders", only for the server in .hark/.',
    ),
  ),
  consumers: maybe("--consumers", list("IDS"), "Run only these, separated by commas."),
  excluded: maybe("--exclude-consumers", list("IDS"), "Run all except these."),
  workers: withDefault(
    needed(
      "--workers",
      number("N", { least: 1, most: 64 }),
      "How many threads run the consumers, 1 (default) to 64: one thread uses one core. A thread " +
        "that ends is started again. They share the partitions of each consumer.",
    ),
    1,
  ),
  list: toggle("--list-consumers", "Print the consumers that would run, and end."),
  drain: toggle("--drain", "Handle what is there, print how many that was, and end."),
  install: toggle("--init", "Install or upgrade the schema first."),
  ...database,
  json,
});

/** `hark listen`. */
export const listen = describedCommand(
  {
    name: "listen",
    brief: "Run consumers.",
    description:
      "Runs every consumer that the modules export, in one process: classes that extend Consumer, " +
      "objects { id, channels, handle }, or arrays of them. On Ctrl-C or SIGTERM it lets running " +
      "handlers finish, stores the progress and ends with 0. Without a database it starts a server " +
      "for this folder, or joins the one that runs. A module has the rights of this process, and a " +
      "task has few: an environment variable that it may not read is undefined. To give more: " +
      "deno run -P=listen --allow-env=DATABASE_URL,NAME --allow-write=PATH cli.ts listen MODULE",
    examples: [
      ["hark listen", "the sample consumer"],
      ["hark listen consumers/", "all consumers of a folder"],
      ["hark listen consumers/ --consumers billing,mail", "two of them"],
      ["hark listen consumers/ --workers 4", "on four cores"],
      ["hark listen billing.ts --drain", "from a cron job"],
      ["hark listen consumers/ --list-consumers --json", "what there is, for a program"],
    ],
  },
  options,
  async (o) => {
    if (o.json && !o.list && !o.drain) {
      refuse(
        "--json goes with --list-consumers or --drain",
        "Leave it out: while consumers run, the output is theirs.",
      );
    }
    if (o.list && o.drain) contradiction("--list-consumers", "--drain");
    if (o.drain && o.workers > 1) {
      contradiction("--drain", "--workers", "--drain works in one thread: leave --workers out.");
    }
    const { runConsumers } = await import("./run_consumers.ts");
    return await runConsumers(o);
  },
);
