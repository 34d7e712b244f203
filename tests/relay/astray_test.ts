import assert from "node:assert/strict";
import { type ConsumerInfo, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type Database } from "../../mod.ts";
import { inbox, type InboxOptions } from "../../src/inbox/mod.ts";
import { Line } from "../../src/relay/jetstream/line.ts";
import { idsBehind } from "../../src/relay/jetstream/read_back.ts";
import { Lost } from "../../src/relay/mod.ts";
import {
  cutProxy,
  deferred,
  patient,
  test as declare,
  type TestBody,
  until,
} from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

const test = (name: string, body: TestBody) => declare(name, { ignore: !natsRuns }, body);

const port = Number(new URL(natsUrl).port) || 4222;

/** Takes messages that the server meant for another reader of a consumer, and acknowledges none. */
async function steal(nats: Nats, { stream_name, name }: ConsumerInfo, count: number) {
  const consumer = await jetstream(nats.connection).consumers.get(stream_name, name);
  const taken = await consumer.fetch({ max_messages: count, expires: 5_000 });
  let got = 0;
  for await (const _ of taken) if (++got === count) break;
  return got;
}

/** A stream with messages of a relay, and a slow line to it. */
async function slowLook(count: number) {
  const stack = new AsyncDisposableStack();
  const nats = stack.use(await Nats.open());
  const stream = await nats.stream();
  for (let n = 0; n < count; n++) {
    await nats.send(`${stream}.a`, String(n), { "Nats-Msg-Id": `hark:x:${n}` });
  }
  const proxy = stack.use(cutProxy(port));
  proxy.delay(20);
  const line = stack.use(await Line.open({ servers: proxy.through(natsUrl) }, "look", 1, 0));
  /** The consumer of a look that is under way. */
  const consumer = async () => {
    const { consumers } = await nats.look(stream);
    return consumers.find(({ delivered }) => delivered.consumer_seq > 20);
  };
  return { nats, stream, proxy, line, consumer, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

test("a look finds all messages of a stream, also if the server has delivered some that did not arrive", async () => {
  await using it = await slowLook(300);
  const looking = idsBehind(it.line, it.stream, 0, { page: 10, patience: patient(1_000) });
  const consumer = await until(it.consumer);
  assert(await steal(it.nats, consumer!, 3) > 0);
  const { ids, end } = await looking;
  assert.deepEqual([ids.size, end], [300, 300]);
});

test("a look over a line that falls silent is not taken for a whole one", async () => {
  await using it = await slowLook(300);
  const looking = idsBehind(it.line, it.stream, 0, { page: 10, patience: patient(1_000) });
  const refused = assert.rejects(looking, Lost);
  await until(it.consumer);
  it.proxy.silence();
  await refused;
  it.proxy.resume();
  assert.equal((await idsBehind(it.line, it.stream, 0)).ids.size, 300);
});

async function setUp(url: string) {
  const stack = new AsyncDisposableStack();
  const nats = stack.use(await Nats.open());
  const stream = await nats.stream();
  const db: Database = stack.use(await connect(url));
  const make = (options: Partial<InboxOptions> = {}) =>
    inbox(db, { id: "in", servers: natsUrl, stream, ...options });
  const send = async (from: number, to: number) => {
    for (let n = from; n < to; n++) await nats.send(`${stream}.a`, String(n));
  };
  return { nats, stream, make, send, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

test("an inbox takes each message, also if the server has delivered some that did not arrive", async ({ url, sql }) => {
  await using it = await setUp(url);
  const incoming = it.make({ batchSize: 2 });
  const running = incoming.run();
  await incoming.ready;
  await it.send(0, 1);
  const { consumers: [consumer] } = await it.nats.look(it.stream);
  const stealing = steal(it.nats, consumer!, 3);
  await until(async () => (await it.nats.look(it.stream)).consumers[0]!.num_waiting > 1);
  await it.send(1, 40);
  const all = () => sql("select payload::int as n from hark.log order by id");
  await until(async () => (await all()).length >= 40, { what: "40 notifications" });
  assert((await stealing) > 0);
  assert.deepEqual((await all()).map(({ n }) => n), Array.from({ length: 40 }, (_, n) => n));
  await incoming.stop();
  await running;
});

test("what the stream delivers again while a batch is handled is published once", async ({ url, sql }) => {
  await using it = await setUp(url);
  const gate = deferred();
  const incoming = it.make({
    map: async (message) => {
      if (message.sequence === 1) await gate.wait();
      return { channel: "c", payload: message.json() };
    },
  });
  const running = incoming.run();
  await incoming.ready;
  const manager = await jetstreamManager(it.nats.connection);
  const { consumers: [consumer] } = await it.nats.look(it.stream);
  await manager.consumers.update(it.stream, consumer!.name, { ack_wait: 200e6 });
  await it.send(0, 4);
  // All are delivered three times: then those of the second time have certainly arrived.
  await until(async () =>
    (await it.nats.look(it.stream)).consumers[0]!.delivered.consumer_seq >= 12
  );
  gate.resolve();
  await it.send(4, 5);
  await until(async () => (await sql("select from hark.log where payload = '4'")).length > 0);
  const rows = await sql("select payload::int as n from hark.log order by id");
  assert.deepEqual(rows.map(({ n }) => n), [0, 1, 2, 3, 4]);
  await incoming.stop();
  await running;
});
