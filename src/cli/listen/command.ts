/**
 * `hark listen`: runs consumers.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, multiple, withDefault } from "@optique/core/modifiers";
import { describedCommand } from "../command.ts";
import {
  contradiction,
  database,
  json,
  list,
  needed,
  number,
  positional,
  refuse,
  toggle,
  words,
} from "../options.ts";

/** The ids of consumers, or undefined: a list, given once or more often. */
function ids(name: `--${string}`, description: string) {
  return map(
    multiple(needed(name, list("IDS"), description)),
    (lists) => lists.length === 0 ? undefined : lists.flat(),
  );
}

/** What can only be a module: a path, a file or a URL. */
const looksLikeModule = /[/\\]|^\.|\.[cm]?[jt]sx?$|^\w[\w+.-]*:/;

/**
 * Joins the words after `--consumers` to one list, as in `--consumers billing mail`. A word that can
 * only be a module stays one.
 */
export function withIdsJoined(args: readonly string[]): readonly string[] {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const joined: string[] = [];
  for (let i = 0; i < end; i++) {
    const arg = args[i]!;
    joined.push(arg);
    if (!/^--(exclude-)?consumers(=|$)/.test(arg)) continue;
    const words = arg.includes("=") ? [joined.pop()!] : [];
    for (; i + 1 < end; i++) {
      const next = args[i + 1]!;
      if (next.startsWith("-") || looksLikeModule.test(next)) break;
      words.push(next);
    }
    if (words.length > 0) joined.push(words.join(","));
  }
  return [...joined, ...args.slice(end)];
}

const options = object({
  modules: multiple(
    positional(
      words("MODULE"),
      "A file, a folder (each .ts, .js, .mts, .mjs in it) or a URL. Default: the folder consumers/. " +
        'Without it, a sample that prints the notifications of "orders", only for the server in ' +
        ".hark/.",
    ),
  ),
  consumers: ids("--consumers", "Run only these, separated by commas or spaces. Repeatable."),
  excluded: ids("--exclude-consumers", "Run all except these."),
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
      ["hark listen", "all consumers of consumers/, else the sample consumer"],
      ["hark listen billing.ts more/", "all consumers of a file and of a folder"],
      ["hark listen --consumers billing mail", "two of them"],
      ["hark listen --workers 4", "on four cores"],
      ["hark listen billing.ts --drain", "from a cron job"],
      ["hark listen --list-consumers --json", "what there is, for a program"],
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
