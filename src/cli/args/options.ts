/**
 * Options that several commands share, and the kinds of values.
 *
 * @module
 */

import { type Message, text } from "@optique/core/message";
import { map, multiple, optional, withDefault } from "@optique/core/modifiers";
import type { Parser } from "@optique/core/parser";
import { argument, flag, option } from "@optique/core/primitives";
import { choice, string, type ValueParser } from "@optique/core/valueparser";
import { HarkError } from "../../errors.ts";
import type { LogOptions } from "../print/log_lines.ts";

/** Text as it is, without marks around values and commands. */
export function plainText(words: string): Message {
  return [text(words)];
}

/** A kind of value. `parse` gives the value, or throws an error whose message is shown. */
export function kind<T>(
  metavar: Uppercase<string>,
  placeholder: T,
  parse: (input: string) => T,
): ValueParser<"sync", T> {
  return {
    mode: "sync",
    metavar: metavar as ValueParser["metavar"],
    placeholder,
    parse(input) {
      try {
        return { success: true, value: parse(input) };
      } catch (error) {
        return { success: false, error: plainText((error as Error).message) };
      }
    },
    format: (value) => String(value),
  };
}

/** Refuses options: says what is wrong, and what to do. */
export function refuse(what: string, remedy: string): never {
  throw new HarkError("BAD_OPTION", what, { remedy });
}

/** Refuses two options that cannot be given together. */
export function contradiction(one: string, other: string, remedy = "Give one of them."): never {
  return refuse(`${one} and ${other} contradict each other`, remedy);
}

/** Refuses more than one of several options. */
export function onlyOne(options: Readonly<Record<`--${string}`, unknown>>): void {
  const given = Object.values(options).filter((value) => value !== undefined && value !== false);
  const names = Object.keys(options);
  if (given.length > 1) contradiction(names.slice(0, -1).join(", "), names.at(-1)!);
}

/** A number within bounds. */
export function number(
  metavar: Uppercase<string>,
  { least, most = Number.MAX_SAFE_INTEGER, whole = true }: {
    readonly least: number;
    readonly most?: number;
    readonly whole?: boolean;
  },
): ValueParser<"sync", number> {
  return kind(metavar, least, (input) => {
    const value = Number(input);
    const ok = input.trim() !== "" && value >= least && value <= most &&
      (whole ? Number.isSafeInteger(value) : Number.isFinite(value));
    if (ok) return value;
    const bounds = most === Number.MAX_SAFE_INTEGER
      ? `of at least ${least}`
      : `from ${least} to ${most}`;
    throw new Error(
      `${metavar} is ${JSON.stringify(input)}. Give a ${whole ? "whole " : ""}number ${bounds}.`,
    );
  });
}

/** Text. */
export function words(metavar: Uppercase<string>): ValueParser<"sync", string> {
  return string({ metavar: metavar as ValueParser["metavar"] });
}

/** A list, separated by commas. */
export function list(metavar: Uppercase<string>): ValueParser<"sync", readonly string[]> {
  return kind(metavar, [] as readonly string[], (input) => {
    const names = input.split(",").map((name) => name.trim()).filter((name) => name !== "");
    if (names.length === 0) {
      throw new Error(`${metavar} is empty. Give names, separated by commas.`);
    }
    return names;
  });
}

/** `NAME=VALUE`. */
export const nameAndValue = kind(
  "NAME=VALUE",
  ["", ""] as readonly [string, string],
  (input): readonly [string, string] => {
    const at = input.indexOf("=");
    if (at > 0) return [input.slice(0, at), input.slice(at + 1)];
    throw new Error(`NAME=VALUE is ${JSON.stringify(input)}. Give a header such as source=crm.`);
  },
);

/** An argument. */
export function positional<T>(value: ValueParser<"sync", T>, description: string) {
  return argument(value, { description: plainText(description) });
}

/** An option that is needed. */
export function needed<T>(name: `--${string}`, value: ValueParser<"sync", T>, description: string) {
  return option(name, value, { description: plainText(description) });
}

/** An option that may be left out. */
export function maybe<T>(name: `--${string}`, value: ValueParser<"sync", T>, description: string) {
  return optional(needed(name, value, description));
}

/** What may be given any number of times; undefined if it is not given. */
export function several<T, State>(one: Parser<"sync", T, State>) {
  return map(multiple(one), (all) => all.length === 0 ? undefined : all);
}

/** A switch that is off by default. */
export function toggle(name: `--${string}`, description: string) {
  return withDefault(flag(name, { description: plainText(description) }), false);
}

/** `--limit`, of commands that show the first of many. */
export function limit(otherwise: number, most = 10_000) {
  const description = `Show at most this many. Default: ${otherwise}.`;
  return withDefault(
    needed("--limit", number("N", { least: 1, most }), description),
    otherwise,
  );
}

/** The consumer that a command is about. */
export const consumer = positional(
  words("CONSUMER"),
  "The consumer's id: see hark consumers list.",
);

/** The consumer that a command shows something of, or of all. */
export const onlyConsumer = optional(
  positional(words("CONSUMER"), "Only of this consumer. Default: of all."),
);

/** `--json`. */
export const json = toggle("--json", "Write JSON, for programs.");

/** How much is logged to standard error, and in what form. */
export const logging = {
  logLevel: maybe(
    "--log-level",
    choice(["debug", "info", "warning", "error"], { metavar: "LEVEL" }),
    "The lowest level to log: debug, info, warning or error.",
  ),
  logFormat: withDefault(
    needed(
      "--log-format",
      choice(["text", "json"], { metavar: "FORMAT" }),
      "The form of log lines on standard error: text (default) or json.",
    ),
    "text" as const,
  ),
};

/** The options of each command that uses a database. */
export const database = {
  databaseUrl: maybe(
    "--database-url",
    words("URL"),
    "postgres://user:password@host:port/database. Default: DATABASE_URL, or PGHOST, PGDATABASE …",
  ),
  ...logging,
};

/** `--replica`, of commands that can read from a standby. */
export const replica = maybe(
  "--replica",
  words("URL"),
  "Read from this standby, so that the primary has no work of it. Default: HARK_REPLICA_URL.",
);

/** The values of {@linkcode database}. */
export interface DatabaseOptions extends LogOptions {
  /** `--database-url`. */
  readonly databaseUrl?: string | undefined;
  /** `--replica`, of commands that have it. */
  readonly replica?: string | undefined;
}
