/**
 * `hark listen`: runs consumers.
 *
 * @module
 */

import { multiple } from "@optique/core/modifiers";
import { localCommand } from "../args/command.ts";
import {
  contradiction,
  database,
  json,
  positional,
  refuse,
  toggle,
  words,
} from "../args/options.ts";
import { flags, settingsOf } from "./settings.ts";

/** What can only be a module: a path, a file or a URL. */
const looksLikeModule = /[/\\]|^\.|\.[cm]?[jt]sx?$|^\w[\w+.-]*:/;

/**
 * Joins the words after `--consumers` and the like to one list, as in `--consumers billing mail`. A
 * word that can only be a module stays one.
 */
export function withListsJoined(args: readonly string[]): readonly string[] {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const joined: string[] = [];
  for (let i = 0; i < end; i++) {
    const arg = args[i]!;
    joined.push(arg);
    if (!/^--((exclude-)?consumers|channels)(=|$)/.test(arg)) continue;
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

const options = {
  modules: multiple(
    positional(
      words("MODULE"),
      "A file, a folder (each .ts, .js, .mts, .mjs in it) or a URL. Default: the folder consumers/. " +
        'Without it, a sample that prints the notifications of "orders", only for the server in ' +
        ".hark/.",
    ),
  ),
  ...flags,
  list: toggle("--list-consumers", "Print the consumers that would run, and end."),
  drain: toggle("--drain", "Handle what is there, print how many that was, and end."),
  watch: toggle(
    "--watch",
    "While developing: start again whenever a module, or a file that it imports, has changed.",
  ),
  install: toggle("--init", "Install or upgrade the schema first."),
  databaseUrl: database.databaseUrl,
  json,
};

/** `hark listen`. */
export const listen = localCommand({
  name: "listen",
  brief: "Run consumers.",
  description:
    "Runs every consumer that the modules export, in one process: classes that extend Consumer, " +
    "objects { id, channels, handle }, or arrays of them. On Ctrl-C or SIGTERM it lets running " +
    "handlers finish, stores the progress and ends with 0. Without a database it starts a server " +
    "for this folder, or joins the one that runs. A module has the rights of this process, and a " +
    "task has few: an environment variable that it may not read is undefined. To give more: " +
    "deno run -P=listen --allow-env=DATABASE_URL,NAME --allow-write=PATH cli.ts listen MODULE. " +
    "Each option from --consumers to --log-format can be a variable too, such as " +
    "HARK_POLL_INTERVAL for --poll-interval. An option counts more than a variable, and a " +
    "variable more than the code of a consumer. --list-consumers shows what counts.",
  examples: [
    ["hark listen", "all consumers of consumers/, else the sample consumer"],
    ["hark listen billing.ts more/", "all consumers of a file and of a folder"],
    ["hark listen --consumers billing mail", "two of them"],
    ["hark listen --channels orders", "those that read this channel"],
    ["hark listen --workers 4", "on four cores"],
    ["hark listen --watch", "while developing"],
    ["hark listen billing.ts --drain", "from a cron job"],
    ["hark listen --list-consumers --json", "what there is, for a program"],
  ],
  options,
  async run(o) {
    if (o.json && !o.list && !o.drain) {
      refuse(
        "--json goes with --list-consumers or --drain",
        "Leave it out: while consumers run, the output is theirs.",
      );
    }
    if (o.list && o.drain) contradiction("--list-consumers", "--drain");
    if (o.list && o.watch) contradiction("--list-consumers", "--watch");
    if (o.drain && o.watch) contradiction("--drain", "--watch");
    const settings = settingsOf(o);
    if (o.drain && settings.metrics.from === "flag") {
      contradiction(
        "--drain",
        "--metrics",
        "A drain ends before it could be asked. Leave --metrics out.",
      );
    }
    if (o.drain && settings.workers.from === "flag" && settings.workers.value > 1) {
      contradiction("--drain", "--workers", "--drain works in one thread: leave --workers out.");
    }
    const { runConsumers } = await import("./run_consumers.ts");
    return await runConsumers({ ...o, settings });
  },
});
