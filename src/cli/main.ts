/**
 * From arguments to an exit code. Each command imports its parts when it runs, so `--help` loads
 * neither the driver nor anything else that it does not need.
 *
 * @module
 */

import type { Message } from "@optique/core/message";
import { createErrorWithSuggestions } from "@optique/core/suggestion";
import { runSync } from "@optique/run";
import config from "../../deno.json" with { type: "json" };
import { withoutSecrets } from "../database/url.ts";
import { acts } from "./acts.ts";
import { channels } from "./channels.ts";
import { cleanup } from "./cleanup.ts";
import { check } from "./check.ts";
import { anyOf, type Command, exampleLines, hasWord } from "./args/command.ts";
import { consumers } from "./consumers.ts";
import { dashboard } from "./dashboard.ts";
import { dead } from "./dead.ts";
import { delayed } from "./delayed.ts";
import { dev } from "./dev.ts";
import { doctor } from "./doctor.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "./exit_codes.ts";
import { inbox } from "./inbox.ts";
import { listen, withListsJoined } from "./listen/command.ts";
import { log } from "./log/command.ts";
import { replay, seek } from "./move.ts";
import { create } from "./new.ts";
import { notify } from "./notify.ts";
import { plainText } from "./args/options.ts";
import { columns, complain, printErrorSync, printSync } from "./print/output.ts";
import { pause, resume } from "./pause.ts";
import { relay } from "./relay.ts";
import { retention } from "./retention.ts";
import { discard, retry } from "./retry.ts";
import { scheduling as schedule } from "./schedule.ts";
import { init, sql, uninstall } from "./schema.ts";
import { status } from "./status.ts";
import { visibleLines } from "./print/style.ts";
import { type Surroundings, within } from "./process/surroundings.ts";
import { tail } from "./tail.ts";
import { withWholeOptions } from "./args/usage.ts";
import { wake } from "./wake.ts";
import { watch } from "./watch.ts";
import { workers } from "./workers.ts";

/** Every command, by name. */
export const commands: Readonly<Record<string, Command>> = {
  init,
  new: create,
  listen,
  wake,
  notify,
  tail,
  dashboard,
  status,
  check,
  doctor,
  log,
  watch,
  relay,
  inbox,
  channels,
  consumers,
  workers,
  seek,
  replay,
  pause,
  resume,
  delayed,
  dead,
  retry,
  discard,
  schedule,
  retention,
  cleanup,
  acts,
  sql,
  uninstall,
  dev,
};

/** The words that can come first, for suggestions. The parser adds `completion` by itself. */
const firstWords = [...Object.keys(commands), "completion"]
  .map((name) => ({ type: "command", name }) as const);

/** The grammar of a command line that begins with `first`. */
export function program(first = ""): Command {
  const command = Object.hasOwn(commands, first) ? commands[first] : undefined;
  // By itself optique 1.3 suggests a command for a mistyped word, but no option of a command.
  const unexpectedInput = (token: string): Message =>
    createErrorWithSuggestions(
      plainText(
        command !== undefined
          ? `hark ${first} does not take ${token}.${
            first === "notify" && /^-(\d|[^-]*$)/.test(token)
              ? ` A payload that begins with a dash comes after --: hark notify CHANNEL -- ${token}`
              : ""
          }`
          : token.startsWith("-")
          ? `a command comes first, not ${token}.`
          : `there is no command ${token}.`,
      ),
      token,
      command === undefined ? firstWords : command.usage,
      command === undefined || !token.startsWith("-") ? "command" : "option",
    );
  return anyOf(Object.values(commands), { unexpectedInput });
}

/** Ends the reading of arguments: help was shown, or the arguments are wrong. */
class Shown extends Error {
  constructor(readonly code: number) {
    super();
  }
}

/** Runs `hark` with these arguments and gives its exit code; in this process's surroundings by default. */
export async function main(args: readonly string[], other?: Surroundings): Promise<number> {
  if (other !== undefined) return await within(other, () => main(args));
  try {
    const action = read(args);
    return await action();
  } catch (error) {
    if (error instanceof Shown) return error.code;
    // The reader has closed our output, as in `hark tail | head`.
    if (error instanceof Deno.errors.BrokenPipe) return exitCodes.ok;
    await complain(visibleLines(withoutSecrets(sentenceOf(error))));
    return exitCodeOf(error);
  }
}

/** The arguments as the grammar takes them, where people may write less or otherwise. */
export function asGrammar(args: readonly string[]): readonly string[] {
  const [first = "", second = "-"] = args;
  if (first === "listen") return withListsJoined(args);
  if (first === "help") {
    // An unknown command is refused, which --help would hide.
    const isKnown = args.length === 1 || firstWords.some(({ name }) => name === second);
    return isKnown ? [...args.slice(1), "--help"] : args.slice(1);
  }
  if (first === "status") return withWatchApart(args);
  // `hark channels MODULE` and `hark retention` show.
  const isShort = first === "channels"
    ? !["show", "check", "--help", "-"].includes(second)
    : first === "retention" && second.startsWith("-") && second !== "--help";
  return isShort ? [first, "show", ...args.slice(1)] : args;
}

/** `--watch` without a time, before another option: the parser would take that for the time. */
function withWatchApart(args: readonly string[]): readonly string[] {
  return args.map((arg, i) =>
    arg === "--watch" && args[i + 1]?.startsWith("-") ? "--watch=2s" : arg
  );
}

function read(given: readonly string[]): () => Promise<number> {
  const args = asGrammar(given);
  const texts: string[] = [];
  return runSync(program(args[0]), {
    programName: "hark",
    args: args.length === 0 ? ["--help"] : args,
    brief: plainText("Durable LISTEN/NOTIFY for PostgreSQL."),
    description: plainText(
      "The database comes from --database-url, from DATABASE_URL, or from PGHOST, PGPORT, PGUSER, " +
        "PGPASSWORD and PGDATABASE. Without any, commands use the server that `hark dev` or " +
        "`hark listen` runs in this folder.",
    ),
    examples: exampleLines([
      ["hark listen", "run the sample consumer, on a server of its own"],
      [`hark notify orders '{"id":42}'`, "publish"],
      ["hark init", "install the schema in DATABASE_URL"],
      ["hark listen consumers/", "run the consumers of a folder"],
      ["hark status", "show how far every consumer is"],
      ["hark watch add public.users", "publish the changes of a table"],
    ]),
    footer: plainText(
      "Exit codes: 0 done, 1 failed, 2 wrong arguments or input, 3 database not reached, " +
        "4 schema missing or of another version, 130 second Ctrl-C.",
    ),
    help: "option",
    version: config.version,
    completion: "command",
    aboveError: "none",
    commandList: "top-level",
    usageLine: [{ type: "command", name: "COMMAND" }, { type: "ellipsis" }],
    termWidth: "auto",
    colors: false,
    maxWidth: columns(),
    errorExitCode: exitCodes.usage,
    stdout: (text) => printSync(withWholeOptions(text, columns())),
    stderr: (text) => texts.push(text),
    onExit: (code) => {
      if (texts.length > 0) {
        printErrorSync(withoutSecrets(plain(texts.join("\n"))));
        printErrorSync(`Try: hark ${commandIn(args)}--help`);
      }
      throw new Shown(args.length === 0 ? exitCodes.usage : code);
    },
  });
}

/** What the parser says, in our words. It puts the option before a message of ours that begins with it. */
function plain(said: string): string {
  return said.replace(/^Error: (?:`([^`]+)`: (?=\1 ))?/, "hark: ")
    .replace(/^hark: Missing option `([^`]+)`\./, "hark: $1 is missing.")
    .replace(/^hark: Expected an? `([^`]+)`, but too few arguments\./, "hark: $1 is missing.")
    .replace(/^hark: `([^`]+)` requires `([^`]+)`\./, "hark: $1 is given without its value, $2.");
}

/** The command that was typed, for the hint. */
function commandIn([first = "", second = ""]: readonly string[]): string {
  if (!Object.hasOwn(commands, first)) return "";
  return hasWord(commands[first]!, second) ? `${first} ${second} ` : `${first} `;
}
