/**
 * Streams for browsers: {@linkcode streams} makes a handler of requests that gives clients what is
 * published, live and from where they stopped.
 *
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { streams } from "@hark/postgres/streams";
 *
 * const db = await connect(Deno.env.get("DATABASE_URL"));
 * Deno.serve(streams(db, { channels: "news", authorize: () => true }));
 * ```
 *
 * @module
 */

export { streams } from "./streams.ts";
export type { StreamAccess, StreamPayload, StreamRoute, StreamsOptions } from "./options.ts";
