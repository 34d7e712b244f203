/**
 * Log records as lines of text, without payloads and passwords.
 *
 * @module
 */

import { visible } from "../visible.ts";
import { messageOf } from "../database/translate.ts";
import { withoutSecrets } from "../database/url.ts";
import { durationText } from "../show.ts";
import type { Left } from "./hidden.ts";
import type { Admitted, Keys } from "./thinning.ts";

/** The facts of a record, by the names that its sentence uses. `error` is what was thrown. */
export type Facts = Readonly<Record<string, unknown>>;

/** How many places of the stack are printed. */
const places = 3;
/** The most characters of one line. */
const widest = 500;
/** The most notifications that are named at the end of a line. */
const mostNamed = 10;

/**
 * Where Hark's own code is. Its places in a stack do not help to find a bug of the program. In a
 * bundle all code is in one file, and no place is left out.
 */
const here = /\/log\/text\.[jt]s$/.test(import.meta.url)
  ? new URL("../", import.meta.url).href
  : undefined;

/**
 * What records have in common: the sentence and the consumer, and those that say the same also the
 * reason, without its numbers and quoted values.
 */
export function keysOf(sentence: string, facts: Facts): Keys {
  const { consumer, id } = facts;
  const group = [sentence, consumer].join("\n");
  const reason = String(facts.reason ?? "").slice(0, widest)
    .replaceAll(/"[^"]*"|'[^']*'|\d+/g, "#");
  const about = typeof id === "number" ? id : undefined;
  return { group, kind: `${group}\n${reason}`, consumer, id: about };
}

/**
 * The lines of a record. If others like it were not printed, their number is said.
 *
 * @param isNew Whether to print where the error comes from: not if that was printed before.
 */
export function lines(
  sentence: string,
  facts: Facts,
  { alike, others }: Admitted,
  isNew: boolean = alike.count === 0,
): string[] {
  const { error } = facts;
  const words = sentence.replaceAll(/\{(\w+)\}( ms\b)?/g, (_, name: string, unit = "") => {
    const value = facts[name];
    if (unit !== "" && typeof value === "number" && value >= 1000) return durationText(value);
    if (name !== "reason") return `${shown(value)}${unit}`;
    return error instanceof Error ? headOf(error) : firstLine(String(value));
  });
  const found = [safe(`hark: ${words}`, alikeText(alike))];
  if (isNew && error instanceof Error) {
    found.push(...placesOf(error).map((place) => `    ${safe(place)}`));
    for (let { cause } = error, depth = 0; cause instanceof Error && depth < 2; depth++) {
      if (!messageOf(error).includes(messageOf(cause))) {
        found.push(`    ${safe(`cause: ${headOf(cause)}`)}`);
      }
      cause = cause.cause;
    }
  }
  if (others > 0) found.push(notPrinted(others));
  return found;
}

/**
 * The lines of a record that was not printed when it was new. It may say what was to come, which has
 * come since: that is left out.
 */
export function earlierLines(sentence: string, facts: Facts, alike: Left): string[] {
  const past = sentence.replace(/,[^,:{}]* in \{wait\} ms/, "");
  const told = past.replace(/^(\{consumer\}: )?/, "$1earlier: ");
  return lines(told, facts, { alike, others: 0 }, false);
}

/** How many records like it were not printed, and which notifications they are about. */
function alikeText({ count, ids, andOthers }: Left): string {
  if (count === 0) return "";
  const named = ids.slice(0, mostNamed);
  const hidden = ids.length - named.length;
  const rest = andOthers ? " and others" : hidden > 0 ? ` and ${hidden} others` : "";
  const about = ids.length === 0
    ? ""
    : ids.length === 1
    ? `, of notification ${ids[0]}`
    : `, of ${andOthers ? "more than " : ""}${ids.length} notifications: ${
      named.join(", ")
    }${rest}`;
  return ` (${count} more like it${about})`;
}

/** The line that says how many records were left out. */
export function notPrinted(count: number): string {
  return count === 1
    ? "hark: 1 other warning or error was not printed"
    : `hark: ${count} other warnings and errors were not printed`;
}

/** Only names and numbers belong into a sentence. */
function shown(value: unknown): string {
  return Array.isArray(value) ? value.map(shown).join(", ") : String(value);
}

/** An error's name, unless it says nothing, and the first line of its message. */
function headOf(error: Error): string {
  const message = firstLine(messageOf(error));
  const { name } = error;
  const isSaid = name === "Error" || typeof name !== "string" || message.startsWith(name);
  return isSaid ? message : `${name}: ${message}`;
}

/** Later lines of a message are often the values that it is about. */
function firstLine(message: string): string {
  return message.split("\n", 1)[0]!;
}

/** The first places of an error's stack, beginning at the first file that is the user's own. */
export function placesOf(error: Error): string[] {
  const all = String(error.stack ?? "").split("\n").map((line) => line.trim())
    .filter((line) => line.startsWith("at ") && (here === undefined || !line.includes(here)))
    .map((line) => line.replace("at Proxy.", "at ")); // a consumer that is a class
  const first = all.findIndex((line) =>
    /(file|https?):\/\//.test(line) && !/\/node_modules\/|\/npm\/|https:\/\/jsr\.io\//.test(line)
  );
  return all.slice(Math.max(0, first))
    .filter((line) => !/\((ext|node):|<anonymous>/.test(line)).slice(0, places);
}

/**
 * Text that does no harm on a terminal and shows no password of a database URL. Control characters
 * and those that turn the direction of text are written as JSON does.
 *
 * @param end What a long text does not push out of its line.
 */
function safe(text: string, end = ""): string {
  const open = withoutSecrets(text);
  const most = widest - end.length;
  const short = open.length > most ? `${open.slice(0, most - 3)}...` : open;
  return visible(short) + end;
}
