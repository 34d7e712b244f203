/**
 * The embedded server of `hark dev` and `hark listen`, and the lines about it.
 *
 * @module
 */

import { relative } from "node:path";
import type { EmbeddedOptions, EmbeddedServer } from "../embedded/options.ts";
import { findEmbedded } from "../embedded/record.ts";
import { startEmbedded } from "../embedded/start.ts";
import { printError } from "./print/output.ts";

/** The server of this folder, in use until disposed of. */
export interface OwnServer extends AsyncDisposable {
  /** The server. */
  readonly server: EmbeddedServer;
  /** The folder of its data, as a person would write it. */
  readonly place: string;
}

/** Starts this folder's server, or joins it if it runs. Says which, and later how it ended. */
export async function ownServer(why: string, options: EmbeddedOptions = {}): Promise<OwnServer> {
  const running = await findEmbedded() !== undefined;
  await printError(
    `${why}${running ? "joining the PostgreSQL that runs for this folder" : "starting PostgreSQL"}`,
  );
  const server = await startEmbedded(options);
  const place = placeOf(server.dataDir);
  return {
    server,
    place,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await printError(
        await findEmbedded() === undefined
          ? `PostgreSQL has ended; its data stays in ${place}`
          : `PostgreSQL goes on, as another process uses it: port ${server.port} of 127.0.0.1`,
      );
    },
  };
}

/**
 * How this program is run here: `deno task` in a clone, `deno run` from JSR, or a binary.
 *
 * @param from Where this module is from.
 */
export function ownCommand(command: string, from: string = import.meta.url): string {
  if (Deno.build.standalone) return `hark ${command}`;
  // These two start a server of the folder. That needs more rights, so they are tasks of their own.
  const starts = /^(listen|dev)\b/.test(command);
  if (from.startsWith("file:")) return `deno task ${starts ? "" : "hark "}${command}`;
  const rights = starts
    ? "--allow-net=127.0.0.1 --allow-read --allow-write=.hark --allow-run " +
      "--allow-sys=uid,hostname --allow-env"
    : "--allow-net --allow-env --allow-read";
  return `deno run ${rights} jsr:@hark/postgres/cli ${command}`;
}

/** The line about a server that an immediate end leaves running; undefined without a server. */
export function leftRunning(own: OwnServer | undefined): string | undefined {
  if (own === undefined) return undefined;
  return `PostgreSQL is left running on port ${own.server.port} of 127.0.0.1; to stop it: ${
    ownCommand("dev")
  }, then Ctrl-C`;
}

/** A path below the current folder, relative to it. */
function placeOf(path: string): string {
  const below = relative(".", path);
  return below.startsWith("..") ? path : below;
}
