/**
 * An inbox in a process of its own, to be killed.
 *
 *     taking.ts DATABASE NATS STREAM
 *
 * @module
 */

import { connect } from "../../../mod.ts";
import { inbox } from "../../../src/inbox/mod.ts";

const [url, servers, stream] = Deno.args;

await using db = await connect(url, { maxReconnectDelay: 500 });
const incoming = inbox(db, { id: "in", servers: servers!, stream: stream!, batchSize: 50 });
void incoming.ready.then(() => console.log("ready"));
await incoming.run();
