import assert from "node:assert/strict";
import { StorageType } from "@nats-io/jetstream";
import { connect } from "../../mod.ts";
import { inbox } from "../../src/inbox/mod.ts";
import { test, until } from "../harness/mod.ts";
import { Nats, natsServer, OwnNats } from "../harness/nats.ts";

test("an inbox that ends with an error leaves no word that it waits", {
  ignore: natsServer === undefined,
}, async ({ url, sql, use }) => {
  const server = use(await OwnNats.start());
  const db = use(await connect(url));
  const nats = use(await Nats.open(server.url));
  const stream = await nats.stream({ name: "MEM", storage: StorageType.Memory });
  const taking = inbox(db, { id: "in", servers: server.url, stream });
  const running = taking.run();
  running.catch(() => {}); // awaited below
  await taking.ready;
  await server.kill();
  await until(async () => (await sql("select from hark.troubles")).length === 1, {
    what: "the inbox to say that it waits",
  });
  await server.start(); // without the stream, which was in its memory
  await assert.rejects(running, { code: "DESTINATION" });
  assert.deepEqual(await sql("select from hark.troubles"), []);
  await until(() => nats.stream({ name: stream }), {
    what: "the test's own connection to be back",
  });
});
