/**
 * A throwaway server, for a bench that was given none: says where it is, and ends with its input. A
 * process of its own, so that benches need not be allowed PostgreSQL's programs.
 *
 * @module
 */

import { startEmbedded } from "../src/embedded/mod.ts";

// The terminal sends Ctrl-C here as well: the bench ends first, and its input with it.
Deno.addSignalListener("SIGINT", () => {});
{
  // Flushed to disk as in production, unlike other throwaway servers.
  await using server = await startEmbedded({
    ephemeral: true,
    settings: { fsync: "on", full_page_writes: "on", max_connections: "300" },
  });
  console.error(`PostgreSQL ${server.version}, a throwaway server on port ${server.port}`);
  console.log(server.url);
  for await (const _ of Deno.stdin.readable);
}
Deno.exit(0);
