/**
 * Starts the server of a data folder in a process of its own and says where it is. It disposes of it
 * on SIGTERM, and is killed with SIGKILL by tests of what happens then.
 *
 *     worker.ts '{"dataDir": "..."}'
 *
 * @module
 */

import { startEmbedded } from "../../../src/embedded/mod.ts";

const asked = Promise.withResolvers<void>();
if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", asked.resolve);
const hold = setInterval(() => {}, 60_000);

const server = await startEmbedded(JSON.parse(Deno.args[0] ?? "{}"));
const { url, pid, port, dataDir, version } = server;
console.log(`started ${JSON.stringify({ url, pid, port, dataDir, version })}`);
await asked.promise;
await server[Symbol.asyncDispose]();
console.log("disposed");
clearInterval(hold);
Deno.exit(0);
