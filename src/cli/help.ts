/**
 * What help pages are made of.
 *
 * @module
 */

import { lineBreak, type Message, text } from "@optique/core/message";

/** Text as it is: no marks around values and commands. */
export function plainText(words: string): Message {
  return [text(words)];
}

/** Commands to copy, each with what it does. */
export function examples(...lines: readonly (readonly [command: string, does: string])[]): Message {
  const width = Math.max(...lines.map(([command]) => command.length));
  return lines.flatMap(([command, does], i) => [
    ...(i === 0 ? [] : [lineBreak()]),
    text(`${command.padEnd(width)}  # ${does}`),
  ]);
}

/** A command's footer: its examples, indented. */
export function examplesFooter(
  ...lines: readonly (readonly [command: string, does: string])[]
): Message {
  const indented = examples(...lines).map((term) =>
    term.type === "text" ? text(`  ${term.text}`) : term
  );
  return [text("Examples:"), lineBreak(), ...indented];
}

/** How this program is run here: `deno task` in a clone, `deno run` from JSR, or a binary. */
export function ownCommand(command: string): string {
  if (Deno.build.standalone) return `hark ${command}`;
  if (import.meta.url.startsWith("file:")) return `deno task ${command}`;
  return `deno run --allow-net --allow-env --allow-read jsr:@hark/postgres/cli ${command}`;
}
