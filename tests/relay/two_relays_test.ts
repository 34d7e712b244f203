import assert from "node:assert/strict";
import { connect, notifyMany } from "../../mod.ts";
import { jetStream, relay } from "../../src/relay/mod.ts";
import { test } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

test("two relays of one channel to one stream publish all of it each, and repeat nothing", {
  ignore: !natsRuns,
}, async ({ url, sql, use }) => {
  const nats = use(await Nats.open());
  const stream = await nats.stream();
  const db = use(await connect(url));
  const make = (id: string, way: string) =>
    relay(db, {
      id,
      channels: "orders",
      to: jetStream({ servers: natsUrl, stream, subject: `${stream}.${way}.{channel}` }),
    });
  await notifyMany(db, [1, 2, 3].map((payload) => ({ channel: "orders", payload })));
  assert.equal(await make("out", "a").drain(), 3);
  assert.equal(await make("out:é/2", "b").drain(), 3);
  const subjects = async () =>
    (await nats.all(stream)).map(({ subject }) => subject.slice(stream.length + 1)).sort();
  const all = ["a.orders", "a.orders", "a.orders", "b.orders", "b.orders", "b.orders"];
  assert.deepEqual(await subjects(), all);
  // As if what they have published had not been stored as handled: each finds its own messages.
  await sql("update hark.partitions set seen = 0, target = null, last_id = 0, after_id = 0");
  assert.equal(await make("out", "a").drain(), 3);
  assert.equal(await make("out:é/2", "b").drain(), 3);
  assert.deepEqual(await subjects(), all);
});
