/** Streams that have lost their last messages, such as by a power cut, and give the numbers of these again. */

import assert from "node:assert/strict";
import { RetentionPolicy, type StreamConfig } from "@nats-io/jetstream";
import { connect } from "../../mod.ts";
import { inbox, type InboxOptions } from "../../src/inbox/mod.ts";
import { test as declare, type TestBody, type TestContext, until } from "../harness/mod.ts";
import { Nats, natsServer, OwnNats } from "../harness/nats.ts";

const test = (name: string, body: TestBody) =>
  declare(name, { ignore: natsServer === undefined }, body);

/** A server whose stream has 1 and 2, and goes back to them. */
async function setUp({ url, sql, use }: TestContext, config: Partial<StreamConfig> = {}) {
  const server = use(await OwnNats.start());
  const nats = use(await Nats.open(server.url));
  await nats.stream({ name: "SHOP", ...config });
  let count = 0;
  const send = async (...numbers: number[]) => {
    for (const n of numbers) {
      const id = { "Nats-Msg-Id": String(++count) }; // the server may start just then
      await until(() => nats.send(`SHOP.k${n}`, String(n), id).then(() => true, () => false));
    }
  };
  await send(1, 2);
  await server.keep();
  const db = use(await connect(url));
  const make = (options: Partial<InboxOptions> = {}) =>
    inbox(db, { id: "in", servers: server.url, stream: "SHOP", ...options });
  const log = async () =>
    (await sql("select payload::int as n from hark.log order by id")).map(({ n }) => n);
  const status = async () =>
    (await sql("select place::int, pending::int from hark.inbox_status(1)"))[0];
  return { server, nats, send, make, log, status };
}

test("none is left out of a stream that has lost its last messages", async (context) => {
  const { server, send, make, log, status } = await setUp(context);
  await send(3, 4, 5);
  assert.equal((await make().drain()).published, 5);
  await server.goBack();
  await send(13, 14, 15); // with the numbers 3, 4 and 5
  assert.equal((await make().drain()).published, 3);
  assert.equal((await make().drain()).messages, 0);
  await send(16);
  assert.equal((await make().drain()).published, 1);
  assert.deepEqual(await log(), [1, 2, 3, 4, 5, 13, 14, 15, 16]);
  assert.deepEqual(await status(), { place: 6, pending: 0 });
});

test("an inbox that looks before the numbers come again takes each message once", async (context) => {
  const { server, send, make, log, status } = await setUp(context);
  await send(3, 4, 5);
  await make({ subject: "SHOP.*" }).drain();
  await server.goBack();
  assert.equal((await make({ subject: "SHOP.*" }).drain()).messages, 0);
  await send(13);
  assert.equal((await make({ subject: "SHOP.*" }).drain()).published, 1);
  assert.deepEqual(await status(), { place: 3, pending: 0 });
  await send(14, 15, 16);
  assert.equal((await make({ subject: "SHOP.*" }).drain()).published, 3);
  assert.deepEqual(await log(), [1, 2, 3, 4, 5, 13, 14, 15, 16]);
});

test("a running inbox goes on with a stream that has lost its last messages", async (context) => {
  const { server, send, make, log } = await setUp(context);
  const incoming = make();
  context.use({ [Symbol.asyncDispose]: () => incoming.stop() });
  const running = incoming.run();
  await incoming.ready;
  await send(3, 4, 5);
  await until(async () => (await log()).length === 5);
  await server.goBack();
  await send(13, 14, 15, 16);
  await until(async () => (await log()).length >= 9);
  await incoming.stop();
  await running;
  assert.deepEqual(await log(), [1, 2, 3, 4, 5, 13, 14, 15, 16]);
});

test("a work queue that has lost its last messages gives each of the others once", async (context) => {
  const { server, nats, send, make, log } = await setUp(context, {
    retention: RetentionPolicy.Workqueue,
  });
  await send(3, 4, 5);
  await make().drain();
  await server.goBack();
  await send(13, 14, 15); // behind 1 and 2, whose acknowledgements are lost, too
  const { messages, published } = await make().drain();
  assert.deepEqual([messages, published], [3, 3]);
  assert.deepEqual(await log(), [1, 2, 3, 4, 5, 13, 14, 15]);
  await until(async () => await nats.count("SHOP") === 0);
});

test("an inbox that began with now takes what a stream stores under numbers that it had lost", async (context) => {
  const { server, send, make, log } = await setUp(context, { max_msgs_per_subject: 1 });
  await send(3, 4, 5);
  await make({ from: "now" }).drain();
  await server.goBack();
  await send(6, 7, 8, 8); // 8 has the numbers 5 and 6, of which the stream keeps the last
  await make().drain();
  assert.deepEqual(await log(), [6, 7, 8]);
});

test("the number decides what is new, if the clock of another server was ahead", async (context) => {
  const { send, make, log } = await setUp(context);
  await make().drain();
  await context.sql("update hark.inboxes set place_time = place_time + interval '1 hour'");
  await send(3, 4);
  assert.equal((await make().drain()).published, 2);
  assert.deepEqual(await log(), [1, 2, 3, 4]);
});
