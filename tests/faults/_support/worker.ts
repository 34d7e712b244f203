/**
 * A consumer in a process of its own, to be killed. Says `ready`, then `handled <payload>` for each.
 *
 *     worker.ts <url> '{"connect": {...}, "options": {...}}'
 *
 * @module
 */

import { connect, type ConnectOptions, Consumer, type ConsumerOptions } from "../../../mod.ts";

const [url, json = "{}"] = Deno.args;
const { connect: how, options } = JSON.parse(json) as {
  connect?: ConnectOptions;
  options?: ConsumerOptions;
};

await using db = await connect(url, how);
const consumer = new Consumer(db, {
  id: "c",
  channels: "c",
  ...options,
  handle: (notification) => console.log(`handled ${JSON.stringify(notification.payload)}`),
});
if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => void consumer.stop());
console.log("ready");
await consumer.run();
console.log("stopped");
Deno.exit(0);
