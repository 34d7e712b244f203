/**
 * Options that say how to reach a NATS server.
 *
 * @module
 */

import type { NatsOptions } from "../relay/jetstream/nats_options.ts";
import { given } from "../given.ts";
import type { Values } from "./args/command.ts";
import { maybe, refuse, words } from "./args/options.ts";
import { surroundings } from "./process/surroundings.ts";

/** The options. */
export const natsOptions = {
  nats: maybe(
    "--nats",
    words("URL"),
    "nats://user:password@host:port, or several separated by commas. Default: HARK_NATS_URL, or " +
      "nats://127.0.0.1:4222.",
  ),
  credentials: maybe("--credentials", words("FILE"), "The .creds file of the NATS user."),
  domain: maybe("--domain", words("NAME"), "The JetStream domain."),
};

/** How to reach the server that the options name. */
export async function natsOf(
  { nats, credentials: file, domain }: Values<typeof natsOptions>,
): Promise<NatsOptions> {
  const servers = nats ?? (surroundings().variable("HARK_NATS_URL") || undefined);
  const credentials = file === undefined ? undefined : await read(file);
  return given({ servers, credentials, domain });
}

async function read(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    return refuse(
      `--credentials ${file} cannot be read: ${(error as Error).message}`,
      error instanceof Deno.errors.NotCapable
        ? `Give the right to read it: --allow-read=${file}`
        : "Check the path.",
    );
  }
}
