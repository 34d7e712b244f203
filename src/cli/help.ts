/**
 * Words of help pages and hints.
 *
 * @module
 */

import { type Message, text } from "@optique/core/message";

/** Text as it is, without marks around values and commands. */
export function plainText(words: string): Message {
  return [text(words)];
}

/** How this program is run here: `deno task` in a clone, `deno run` from JSR, or a binary. */
export function ownCommand(command: string): string {
  if (Deno.build.standalone) return `hark ${command}`;
  if (import.meta.url.startsWith("file:")) return `deno task ${command}`;
  return `deno run --allow-net --allow-env --allow-read jsr:@hark/postgres/cli ${command}`;
}
