/**
 * Options that several commands share, and the kinds of values.
 *
 * @module
 */

import { optional, withDefault } from "@optique/core/modifiers";
import { flag, option } from "@optique/core/primitives";
import { choice, string, type ValueParser } from "@optique/core/valueparser";
import type { LogOptions } from "./log.ts";
import { plainText } from "./help.ts";

/** What a command does once its options are read; gives the exit code. */
export type Action = () => Promise<number>;

/** A kind of value: `parse` gives it, or throws an Error whose message completes "VALUE is …". */
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

/** Text that is not empty. */
export function words(metavar: Uppercase<string>): ValueParser<"sync", string> {
  return string({ metavar: metavar as ValueParser["metavar"] });
}

/** A comma-separated list. */
export function list(metavar: Uppercase<string>): ValueParser<"sync", readonly string[]> {
  return kind(metavar, [] as readonly string[], (input) => {
    const names = input.split(",").map((name) => name.trim()).filter((name) => name !== "");
    if (names.length === 0) {
      throw new Error(`${metavar} is empty. Give names, separated by commas.`);
    }
    return names;
  });
}

/** A switch that is off unless given. */
export function toggle(name: `--${string}`, description: string) {
  return withDefault(flag(name, { description: plainText(description) }), false);
}

/** `--json`. */
export const json = toggle("--json", "Write JSON, for programs.");

/** Which database. */
export const databaseUrl = optional(option("--database-url", words("URL"), {
  description: plainText("postgres://user:password@host:port/database. Default: DATABASE_URL."),
}));

/** How much is logged to standard error, and how. */
export const logging = {
  logLevel: optional(option(
    "--log-level",
    choice(["debug", "info", "warning", "error"], { metavar: "LEVEL" }),
    { description: plainText("debug, info, warning or error: the least that is logged.") },
  )),
  logFormat: withDefault(
    option("--log-format", choice(["text", "json"], { metavar: "FORMAT" }), {
      description: plainText("text (default) or json: how it is written to standard error."),
    }),
    "text" as const,
  ),
};

/** What every command that uses a database takes. */
export const database = { databaseUrl, ...logging };

/** The values of {@linkcode database}. */
export interface DatabaseOptions extends LogOptions {
  /** `--database-url`. */
  readonly databaseUrl: string | undefined;
}
