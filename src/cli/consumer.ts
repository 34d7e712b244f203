/**
 * What commands about a consumer share: its name, places and times, how things are said.
 *
 * @module
 */

import type { Message } from "@optique/core/message";
import { argument } from "@optique/core/primitives";
import { HarkError } from "../errors.ts";
import type { HoldingConsumer, HoldingReason } from "../operate/holding.ts";
import { plainText } from "./help.ts";
import { kind, words } from "./options.ts";
import { secondsText, visible } from "./output.ts";
import { surroundings } from "./surroundings.ts";

/** The consumer that a command is about. */
export const consumer = argument(words("CONSUMER"), {
  description: plainText("The consumer's name: see hark consumers list."),
});

/** What is said where a command's second word is missing. */
export function secondWord(command: string, words: readonly string[]): { noMatch: Message } {
  const known = `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
  return { noMatch: plainText(`hark ${command} needs one more word: ${known}.`) };
}

function timeOf(input: string): Date | undefined {
  if (!/^\d{4}-\d\d-\d\d/.test(input)) return undefined;
  const time = new Date(input);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

function idOf(input: string): number | undefined {
  const id = /^\d+$/.test(input) ? Number(input) : 0;
  return Number.isSafeInteger(id) && id > 0 ? id : undefined;
}

/** A time. */
export const time = kind("TIME", new Date(0), (input) => {
  const value = timeOf(input);
  if (value !== undefined) return value;
  throw new Error(`TIME is ${JSON.stringify(input)}. Give a time such as 2026-11-21T10:00:00Z.`);
});

/** An id or a time. */
export const place = kind<number | Date>("PLACE", 1, (input) => {
  const value = idOf(input) ?? timeOf(input);
  if (value !== undefined) return value;
  throw new Error(
    `PLACE is ${JSON.stringify(input)}. ` +
      "Give an id such as 42, or a time such as 2026-11-21T10:00:00Z.",
  );
});

/** An id. */
export const id = kind("ID", 1, (input) => {
  const value = idOf(input);
  if (value !== undefined) return value;
  throw new Error(`ID is ${JSON.stringify(input)}. Give the id of a notification, such as 42.`);
});

/** How long ago something was, for people; "never" where it never was. */
export function ago(time: Date | null): string {
  if (time === null) return "never";
  return `${secondsText(Math.max(0, (Date.now() - time.getTime()) / 1000))} ago`;
}

/** In how long something will be, for people. */
export function until(time: Date): string {
  return `in ${secondsText(Math.max(0, (time.getTime() - Date.now()) / 1000))}`;
}

/** When a lease that nobody serves under ends, or ended: who was killed leaves one that still runs. */
export function leaseEnd(end: Date): string {
  return end.getTime() > Date.now() ? `lease ends ${until(end)}` : `lease ended ${ago(end)}`;
}

/** Words that are not longer than a column may be. */
export function shortened(words: string, most = 40): string {
  return words.length > most ? `${words.slice(0, most - 1)}…` : words;
}

const because: Readonly<Record<HoldingReason, string>> = {
  behind: "it has not passed that",
  inactive: "no worker serves it",
  paused: "it is paused",
  waiting: "that is to be tried again",
  replaying: "that is to be replayed",
};

/** Why a consumer holds back cleaning, for people. */
export function holdingText({ consumer, oldest, reasons }: HoldingConsumer): string {
  return `"${visible(consumer)}" (at ${oldest.toISOString()}: ${
    reasons.map((reason) => because[reason]).join(", ")
  })`;
}

/** Asks on a terminal; elsewhere `--yes` has to say so. */
export function confirmed(yes: boolean, what: string, command: string): boolean {
  if (yes) return true;
  if (surroundings().stdin.isTerminal()) return confirm(`${what}. Go on?`);
  throw new HarkError("BAD_OPTION", what, {
    remedy: `If that is what you want: ${command} --yes`,
  });
}

/** A word as a shell takes it. */
export function quoted(word: string): string {
  return /^[\w.:/@-]+$/.test(word) ? word : `'${visible(word).replaceAll("'", "'\\''")}'`;
}
