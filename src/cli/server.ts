/**
 * The embedded server of `hark dev` and `hark listen`, and what is said of it.
 *
 * @module
 */

import { relative } from "node:path";
import type { EmbeddedOptions, EmbeddedServer } from "../database/embedded/options.ts";
import { findEmbedded } from "../database/embedded/record.ts";
import { startEmbedded } from "../database/embedded/start.ts";
import { ownCommand } from "./help.ts";
import { printError } from "./output.ts";

/** The server of this folder, in use until disposed of. */
export interface OwnServer extends AsyncDisposable {
  /** The server. */
  readonly server: EmbeddedServer;
  /** Where its data lies, as a person would name it. */
  readonly place: string;
}

/** Starts the server of this folder, or joins it where it runs; says which, and how it ended. */
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

/** What an end without order leaves behind; undefined where there is no server. */
export function leftRunning(own: OwnServer | undefined): string | undefined {
  if (own === undefined) return undefined;
  return `PostgreSQL is left running on port ${own.server.port} of 127.0.0.1; to stop it: ${
    ownCommand("dev")
  }, then Ctrl-C`;
}

/** A path below the current folder is shown relative to it. */
function placeOf(path: string): string {
  const below = relative(".", path);
  return below.startsWith("..") ? path : below;
}
