/**
 * From arguments to an exit code. Nothing that a `--help` does not need is loaded here: each command
 * imports what it works with when it runs.
 *
 * @module
 */

import { or } from "@optique/core/constructs";
import type { Message } from "@optique/core/message";
import type { Parser } from "@optique/core/parser";
import { createErrorWithSuggestions } from "@optique/core/suggestion";
import { runSync } from "@optique/run";
import config from "../../deno.json" with { type: "json" };
import { cleanup } from "./cleanup.ts";
import { consumers } from "./consumers.ts";
import { dead } from "./dead.ts";
import { dev } from "./dev.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "./exit_codes.ts";
import { init } from "./init.ts";
import { listen } from "./listen/command.ts";
import { notify } from "./notify.ts";
import { examples, plainText } from "./help.ts";
import type { Action } from "./options.ts";
import { columns, printError, printErrorSync, printSync, visibleLines } from "./output.ts";
import { pause } from "./pause.ts";
import { replay } from "./replay.ts";
import { resume } from "./resume.ts";
import { seek } from "./seek.ts";
import { sql } from "./sql.ts";
import { status } from "./status.ts";
import { type Surroundings, within } from "./surroundings.ts";
import { tail } from "./tail.ts";
import { uninstall } from "./uninstall.ts";
import { watch } from "./watch.ts";

const commands = {
  init,
  listen,
  notify,
  tail,
  status,
  watch,
  consumers,
  seek,
  replay,
  pause,
  resume,
  dead,
  cleanup,
  sql,
  uninstall,
  dev,
};

/** The command that the parser adds by itself, for suggestions: a first word, none of a command's own. */
const completion = { type: "command", name: "completion" } as const;

/** The grammar of a command line that begins with `first`. */
function program(first: string | undefined): Parser<"sync", Action, unknown> {
  const command = Object.hasOwn(commands, first ?? "") && first !== undefined
    ? commands[first as keyof typeof commands]
    : undefined;
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
      command === undefined
        ? [...Object.keys(commands).map((name) => ({ type: "command", name }) as const), completion]
        : command.usage,
      command === undefined || !token.startsWith("-") ? "command" : "option",
    );
  const settings = { errors: { unexpectedInput } };
  // It takes 15 at most.
  return or(
    or(init, listen, notify, tail, status, watch, consumers, settings),
    or(seek, replay, pause, resume, dead, cleanup, sql, uninstall, dev, settings),
    settings,
  );
}

/** Ends the reading of arguments: help was shown, or they are wrong. */
class Shown extends Error {
  constructor(readonly code: number) {
    super();
  }
}

/** Runs `hark` with these arguments and gives its exit code; in this process's surroundings unless others are given. */
export async function main(args: readonly string[], other?: Surroundings): Promise<number> {
  if (other !== undefined) return await within(other, () => main(args));
  try {
    const action = read(args);
    return await action();
  } catch (error) {
    if (error instanceof Shown) return error.code;
    // Whoever read our output has gone, as in `hark tail | head`.
    if (error instanceof Deno.errors.BrokenPipe) return exitCodes.ok;
    await printError(visibleLines(`hark: ${sentenceOf(error)}`));
    return exitCodeOf(error);
  }
}

function read(args: readonly string[]): () => Promise<number> {
  const texts: string[] = [];
  return runSync(program(args[0]), {
    programName: "hark",
    args: args.length === 0 ? ["--help"] : args,
    brief: plainText("Durable LISTEN/NOTIFY for PostgreSQL."),
    description: plainText(
      "The database is the one of --database-url, else of DATABASE_URL, else a server that " +
        "`hark dev` or `hark listen` has started in this folder.",
    ),
    examples: examples(
      ["hark listen", "run the sample consumer, on a server of its own"],
      [`hark notify orders '{"id":42}'`, "publish"],
      ["hark init", "install the schema in DATABASE_URL"],
      ["hark listen consumers/", "run the consumers of a folder"],
      ["hark status", "how far everybody is"],
      ["hark watch add public.users", "publish the changes of a table"],
    ),
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
    stdout: printSync,
    stderr: (text) => texts.push(text),
    onExit: (code) => {
      if (texts.length > 0) {
        printErrorSync(texts.join("\n").replace(/^Error: /, "hark: "));
        printErrorSync(`Try: hark ${commandIn(args)}--help`);
      }
      throw new Shown(args.length === 0 ? exitCodes.usage : code);
    },
  });
}

/** The command that was meant, for the hint. */
function commandIn([first = ""]: readonly string[]): string {
  return Object.hasOwn(commands, first) ? `${first} ` : "";
}
