import assert from "node:assert/strict";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import {
  connect,
  type Database,
  notify,
  notifyMany,
  pause,
  replay,
  resume,
  seek,
} from "../../mod.ts";
import { jetStream, relay, type RelayOptions, type Sink } from "../../src/relay/mod.ts";
import { run } from "../examples/_support/run.ts";
import { test as declare, type TestBody, until } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

const test = (name: string, body: TestBody) => declare(name, { ignore: !natsRuns }, body);

/** A relay of channel "orders" to a stream of the test's own. */
async function setUp(url: string, more: Partial<RelayOptions> & { subject?: string } = {}) {
  const stack = new AsyncDisposableStack();
  const nats = stack.use(await Nats.open());
  const stream = await nats.stream();
  const db = stack.use(await connect(url));
  const { subject = `${stream}.{channel}`, ...options } = more;
  const make = (other: Partial<RelayOptions> = {}) =>
    relay(db, {
      id: "out",
      channels: "orders",
      to: jetStream({ servers: natsUrl, stream, subject }),
      ...options,
      ...other,
    });
  return { nats, stream, db, make, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function publish(db: Database, count: number, keys = 5, from = 1): Promise<void> {
  await notifyMany(
    db,
    Array.from({ length: count }, (_, i) => ({
      channel: "orders",
      key: `k${i % keys}`,
      payload: { n: from + i },
    })),
  );
}

test("what was published before and while it runs is in the stream, in order, with its facts", async ({ url, sql }) => {
  await using it = await setUp(url, { subject: undefined! });
  const { nats, stream, db, make } = it;
  await notify(db, "orders", { n: 1 }, { key: "ada é.1", headers: { by: "shop", deep: { x: 1 } } });
  const out = make();
  const running = out.run();
  await out.ready;
  // Only those of one key are in order in any case.
  await nats.atLeast(stream, 1);
  await notify(db, "orders", { n: 2 });
  const [first, second] = await nats.atLeast(stream, 2);
  await out.stop();
  await running;
  const [{ id: install }] = await sql("select id from hark.install");
  assert.equal(first!.id, `hark:${install}:1:out`);
  assert.equal(first!.subject, `${stream}.orders`);
  assert.deepEqual(JSON.parse(first!.text), { n: 1 });
  assert.equal(first!.headers["Hark-Key"], "ada %C3%A9.1");
  assert.equal(first!.headers["by"], "shop");
  assert.deepEqual(JSON.parse(first!.headers["Hark-Headers"]!), { by: "shop", deep: { x: 1 } });
  assert.equal(second!.headers["Hark-Key"], undefined);
  assert.deepEqual(JSON.parse(second!.text), { n: 2 });
});

test("two relays of one name share its partitions, and each key stays in order", async ({ url }) => {
  await using it = await setUp(url, { partitions: 4, inFlight: 40 });
  const { nats, stream, db, make } = it;
  const relays = [make(), make()];
  const running = relays.map((one) => one.run());
  await Promise.all(relays.map((one) => one.ready));
  for (let i = 0; i < 10; i++) await publish(db, 100, 7, 1 + i * 100);
  const stored = await nats.atLeast(stream, 1_000);
  await Promise.all(relays.map((one) => one.stop()));
  await Promise.all(running);
  assert.equal(stored.length, 1_000);
  const last = new Map<string, number>();
  for (const { headers, text } of stored) {
    const { n } = JSON.parse(text);
    const key = headers["Hark-Key"]!;
    assert((last.get(key) ?? 0) < n, `${key}: ${n} after ${last.get(key)}`);
    last.set(key, n);
  }
});

test("a rule for each channel, keys as tokens, and a function make the subjects", async ({ url }) => {
  await using it = await setUp(url);
  const { nats, stream, db, make } = it;
  await notify(db, "orders", 1, { key: "a.b c" });
  await notify(db, "refunds", 2, { key: "x" });
  await notify(db, "other", 3, { headers: { region: "eu" } });
  const out = make({
    channels: ["orders", "refunds", "other"],
    to: jetStream({
      servers: natsUrl,
      stream,
      subject: {
        orders: `${stream}.o.{key}`,
        refunds: ({ key }) => `${stream}.r.${key}`,
        "*": `${stream}.{header.region}.{channel}.{key}`,
      },
    }),
  });
  assert.equal(await out.drain(), 3);
  const subjects = (await nats.all(stream)).map(({ subject }) => subject.slice(stream.length + 1));
  assert.deepEqual(subjects.sort(), ["eu.other._", "o.a%2Eb%20c", "r.x"]);
});

test("after the position was lost, nothing that is in the stream is published again", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { nats, stream, db, make } = it;
  const manager = await jetstreamManager(nats.connection);
  await publish(db, 300);
  await make().drain();
  // A crash between the stream's acknowledgement and Hark's, longer ago than the stream remembers ids.
  const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}` });
  const forgetful: Sink = {
    ...to,
    async open(setting) {
      const open = await to.open(setting);
      await manager.streams.update(stream, { duplicate_window: 100e6 });
      const msgID = (await nats.all(stream)).at(-1)!.id!;
      await until(async () => {
        const { duplicate, seq } = await jetstream(nats.connection).publish(`${stream}.probe`, "", {
          msgID,
        });
        if (!duplicate) await manager.streams.deleteMessage(stream, seq);
        return !duplicate;
      }, { what: "the stream to forget the ids" });
      return open;
    },
  };
  await sql("update hark.relays set place = 0"); // as it is before the first was stored
  await seek(db, "out", "beginning");
  await publish(db, 10, 5, 1_000);
  await make({ to: forgetful }).drain();
  const stored = await nats.all(stream);
  assert.equal(stored.length, 310);
  assert.equal(new Set(stored.map(({ id }) => id)).size, 310);
});

test("it holds while it is paused, and a replay does not double what the stream has", async ({ url }) => {
  await using it = await setUp(url);
  const { nats, stream, db, make } = it;
  const out = make();
  const running = out.run();
  await out.ready;
  await pause(db, "out");
  await publish(db, 3);
  await resume(db, "out");
  await nats.atLeast(stream, 3);
  await out.stop();
  await running;
  await replay(db, "out", { from: 1, to: 3 });
  await make().drain();
  assert.equal(await nats.count(stream), 3);
});

declare("the example relay.ts publishes to a stream, and says where", {
  ignore: !natsRuns,
  schema: false,
}, async ({ url }) => {
  assert.deepEqual(await run("relay", "example", url), [
    "1 { id: 42, total: 10 }",
    "2 { id: 42, paid: true }",
    "2 relayed",
  ]);
});
