/**
 * A relay in a process of its own, to be killed.
 *
 *     relaying.ts DATABASE NATS STREAM [PARTITIONS]
 *
 * @module
 */

import { connect } from "../../../mod.ts";
import { jetStream, relay } from "../../../src/relay/mod.ts";

const [url, servers, stream, partitions = "1"] = Deno.args;

await using db = await connect(url, { maxReconnectDelay: 500 });
const out = relay(db, {
  id: "out",
  channels: "orders",
  partitions: Number(partitions),
  lease: 1_500,
  inFlight: 200,
  to: jetStream({ servers: servers!, stream: stream!, subject: `${stream}.{channel}` }),
});
if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => void out.stop());
void out.ready.then(() => console.log("ready"));
await out.run();
console.log("stopped");
Deno.exit(0);
