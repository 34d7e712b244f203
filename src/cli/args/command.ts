/**
 * What commands are made of: a name, a help page, options, and what they do.
 *
 * @module
 */

import { object, or } from "@optique/core/constructs";
import { lineBreak, type Message, text } from "@optique/core/message";
import { map } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, passThrough } from "@optique/core/primitives";
import type { Database } from "../../database/database.ts";
import { type Given, given } from "../../given.ts";
import { exitCodes } from "../exit_codes.ts";
import { database, json, plainText, replica } from "./options.ts";
import { complain, print, printJson, unlessClosed } from "../print/output.ts";
import { shellWord } from "../print/text.ts";

/** What a command does once its options are read; gives the exit code. */
export type Action = () => Promise<number>;

/** A command in the grammar. */
export type Command = Parser<"sync", Action, unknown>;

/** A line of a help page's examples. */
export type Example = readonly [command: string, does: string];

/** The name and the help page of a command. */
export interface Description {
  /** As it is typed; for one of a group, the group's name comes first. */
  readonly name: string;
  /** One sentence, for the list of commands. */
  readonly brief: string;
  /** More sentences, for its own page. */
  readonly description?: string;
  readonly examples: readonly Example[];
}

/** What a command found or did: a value for programs, and a text for people. */
export interface Answer {
  /** Written with `--json`. */
  readonly json: unknown;
  /** Written without, unless it is empty. */
  readonly text: string;
  /** The exit code. @default {0} */
  readonly code?: number;
}

/** Options by name, as parsers. */
// deno-lint-ignore no-explicit-any -- the states of parsers are their own matter
export type Fields = Readonly<Record<string, Parser<"sync", any, any>>>;

/** The values of options. One that was left out is missing, as calls of the package take it. */
export type Values<F extends Fields> = Given<{ [Name in keyof F]: InferValue<F[Name]> }>;

/** What a command gives: an answer, or the exit code if it has written its output itself. */
type Outcome = Answer | number;

/** A command that works without a database. */
export interface LocalCommand<F extends Fields> extends Description {
  /** Its options. If it has `json`, that option chooses the form of the answer. */
  readonly options?: F;
  /** Does the work. */
  readonly run: (options: Values<F>) => Promise<Outcome>;
}

/** A command that works on a database. */
export interface DatabaseCommand<F extends Fields> extends Description {
  /** Its own options, besides those about the database, logging and `--json`. */
  readonly options?: F;
  /**
   * Whether it has `--replica`: to read there beside the primary, or to work there alone. By default
   * it has not.
   */
  readonly replica?: "beside" | "alone";
  /** Refuses options that contradict each other, before anything is connected to. */
  readonly check?: (options: Values<F>) => void;
  /** Does the work. */
  readonly run: (db: Database, options: Values<F>, json: boolean) => Promise<Outcome | void>;
}

/** Makes a command that does its work and writes the answer. */
export function localCommand<F extends Fields = Record<never, never>>(
  command: LocalCommand<F>,
): Command {
  return described(command, { ...command.options }, async (o) => {
    const { json = false } = o as { json?: boolean };
    return await answer(await command.run(o as Values<F>), json);
  });
}

/** The values of the options that all database commands have, beside their own. */
type SharedValues = Values<typeof database> & {
  readonly replica?: string;
  readonly json: boolean;
};

/** Makes a command that connects to a database, does its work, and writes the answer. */
export function databaseCommand<F extends Fields = Record<never, never>>(
  command: DatabaseCommand<F>,
): Command {
  const ofReplica = command.replica === undefined ? {} : { replica };
  const shared = { ...database, ...ofReplica, json };
  return described(command, { ...command.options, ...shared }, async (all) => {
    const { databaseUrl, replica, logLevel, logFormat, json, ...own } = all as SharedValues;
    const o = own as Values<F>;
    command.check?.(o);
    const { openDatabase } = await import("../database.ts");
    const where = { databaseUrl, replica, logLevel, logFormat };
    await using db = await openDatabase(where, command.name.split(" ")[0]!, command.replica);
    return await answer(await command.run(db, o, json) ?? exitCodes.ok, json);
  });
}

/** Writes an answer in the form that was asked for, and gives the exit code, which needs no reader. */
export async function answer(outcome: Outcome, asJson: boolean): Promise<number> {
  if (typeof outcome === "number") return outcome;
  await show(outcome, asJson).catch(unlessClosed);
  return outcome.code ?? exitCodes.ok;
}

/** Writes one answer of several in the form that was asked for; rejects if no reader is left. */
export async function show({ json, text }: Answer, asJson: boolean): Promise<void> {
  if (asJson) await printJson(json);
  else if (text !== "") await print(text);
}

/** A command with its help page. What was left out is missing in the values that `run` is given. */
function described(
  description: Description,
  options: Fields,
  run: (values: Readonly<Record<string, unknown>>) => Promise<number>,
): Command {
  return command(
    description.name.split(" ").at(-1)!,
    map(object(options), (values) => () => run(given(values))),
    helpOf(description),
  );
}

/**
 * A word of a group that people try and that is a command of its own. It is not listed, and says
 * what to type.
 */
export function elsewhere(name: string): Command {
  const word = name.split(" ").at(-1)!;
  const rest = passThrough({ format: "greedy", hidden: true });
  return command(
    word,
    map(rest, (given) => async () => {
      const wanted = ["hark", word, ...given.map(shellWord)].join(" ");
      await complain(`hark ${name} is a command of its own: ${wanted}`);
      return exitCodes.usage;
    }),
    { hidden: true },
  );
}

/** The next words of each group of commands. */
const wordsOf = new WeakMap<Command, readonly string[]>();

/** Whether a command is a group that has this next word. */
export function hasWord(group: Command, word: string): boolean {
  return wordsOf.get(group)?.includes(word) === true;
}

/** Makes a command whose next word is another command; `hidden` ones are not listed. */
export function commandGroup(
  description: Description,
  commands: Readonly<Record<string, Command>>,
  hidden: readonly Command[] = [],
): Command {
  const words = Object.keys(commands);
  const known = words.length === 1
    ? words[0]
    : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
  const noMatch = plainText(`hark ${description.name} needs one more word: ${known}.`);
  const group = command(
    description.name,
    anyOf([...Object.values(commands), ...hidden], { noMatch }),
    helpOf(description),
  );
  wordsOf.set(group, words);
  return group;
}

/** One of several parsers; optique types at most 15. */
export function anyOf(
  parsers: readonly Command[],
  errors: { readonly noMatch?: Message; readonly unexpectedInput?: (token: string) => Message },
): Command {
  const either = or as unknown as (...given: (Command | { errors: typeof errors })[]) => Command;
  if (parsers.length <= 10) return either(...parsers, { errors });
  return either(anyOf(parsers.slice(0, 10), errors), anyOf(parsers.slice(10), errors), { errors });
}

function helpOf({ brief, description, examples }: Description) {
  return {
    brief: plainText(brief),
    ...(description === undefined ? {} : { description: plainText(description) }),
    footer: [text("Examples:"), lineBreak(), ...exampleLines(examples, "  ")],
  };
}

/** Commands to copy, each with what it does. */
export function exampleLines(examples: readonly Example[], indent = ""): Message {
  const width = Math.max(...examples.map(([command]) => command.length));
  return examples.flatMap(([command, does], i) => [
    ...(i === 0 ? [] : [lineBreak()]),
    text(`${indent}${command.padEnd(width)}  # ${does}`),
  ]);
}
