/**
 * A real PostgreSQL server that runs beside the program, with nothing to install. For trying Hark
 * out, for development and for tests.
 *
 * @example
 * ```ts no-run
 * import { startEmbedded } from "@hark/postgres/embedded";
 *
 * await using server = await startEmbedded({ ephemeral: true });
 * console.log(server.url);
 * ```
 *
 * @module
 */

export { type EmbeddedOptions, type EmbeddedServer, type StopMode } from "./options.ts";
export { findEmbedded } from "./record.ts";
export { startEmbedded } from "./start.ts";
