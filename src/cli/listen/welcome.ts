/**
 * What `hark listen` says about its consumers.
 *
 * @module
 */

import { complain, printError } from "../print/output.ts";
import { ownCommand, type OwnServer } from "../server.ts";
import { paintError, visible, visibleLines } from "../print/style.ts";
import { shellWord } from "../print/text.ts";
import type { Known } from "./thread_messages.ts";

/** Says which consumers run, and how to publish to them on a server of the folder. */
export async function welcome(found: readonly Known[], own?: OwnServer): Promise<void> {
  if (own !== undefined) {
    const { version, port } = own.server;
    await printError(
      `PostgreSQL ${version} runs on port ${port} of 127.0.0.1; its data is in ${own.place}`,
    );
  }
  for (const { id, channels } of found) {
    await printError(
      `${paintError("bold", visible(id))} listens on ${channels.map(visible).join(", ")}`,
    );
  }
  if (own !== undefined) {
    const channel = found[0]?.channels[0] ?? "orders";
    const command = ownCommand(`notify ${shellWord(channel)} '{"id":42}'`);
    await printError(`In a second terminal: ${paintError("bold", command)}`);
  }
}

/** Writes a failure to standard error. */
export async function printFailure(what: string, sentence: string): Promise<void> {
  await complain(`${what}: ${visibleLines(sentence)}`);
}
