import assert from "node:assert/strict";
import { connect, type Database, notify, notifyMany } from "../../mod.ts";
import {
  deadMessages,
  discardMessage,
  inbox,
  type InboxMessage,
  type InboxOptions,
  redrive,
} from "../../src/inbox/mod.ts";
import { jetStream, relay } from "../../src/relay/mod.ts";
import { test as declare, type TestBody, until } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

const test = (name: string, body: TestBody) => declare(name, { ignore: !natsRuns }, body);

async function setUp(url: string) {
  const stack = new AsyncDisposableStack();
  const nats = stack.use(await Nats.open());
  const stream = await nats.stream();
  const db: Database = stack.use(await connect(url));
  const make = (options: Partial<InboxOptions> = {}) =>
    inbox(db, { id: "in", servers: natsUrl, stream, ...options });
  const send = async (tail: string, body: string, headers?: Record<string, string>) =>
    await nats.send(`${stream}.${tail}`, body, headers);
  return { nats, stream, db, make, send, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

test("what a relay has published comes back as it was", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { db, stream, make } = it;
  await sql(
    `select hark.notify('orders', '{"big": 12345678901234567890.1}', 'ключ 1', '{"a": {"b": 12345678901234567890.1}, "t": "x", "ü": "\\n"}')`,
  );
  await notify(db, "orders", null);
  const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}.{key}` });
  await relay(db, { id: "out", channels: "orders", to }).drain();
  const { messages, published, own } = await make().drain();
  assert.deepEqual([messages, published, own], [2, 0, 2], "its own messages are read");
  assert.equal(
    (await sql("select * from hark.log")).length,
    2,
    "and left out, or they would circle",
  );
  await make({ id: "other", takeOwn: true }).drain();
  const rows = await sql(
    "select channel, key, payload::text, headers::text from hark.log order by id",
  );
  assert.deepEqual(rows.slice(2), rows.slice(0, 2));
});

test("each message is published once and in order, however often the inbox starts anew", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { make, send, stream } = it;
  for (let n = 0; n < 30; n++) await send("a", String(n));
  assert.equal((await make({ batchSize: 7 }).drain()).published, 30);
  // An inbox that died before its acknowledgements reached the stream is delivered all of it again.
  await it.nats.forget(stream);
  const again = make({ batchSize: 7 });
  const running = again.run();
  await again.ready;
  for (let n = 30; n < 40; n++) await send("a", String(n));
  const all = () =>
    sql("select payload::int as n, channel, key, headers from hark.log order by id");
  await until(async () => (await all()).length === 40);
  await again.stop();
  await running;
  const rows = await all();
  assert.deepEqual(rows.map(({ n }) => n), Array.from({ length: 40 }, (_, n) => n));
  const { channel, key, headers } = rows[0];
  assert.deepEqual([channel, key, headers["nats-subject"]], Array(3).fill(`${stream}.a`));
});

test("an inbox that began with now takes all of a stream that was made anew", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { make, send, stream, nats } = it;
  await send("a", "0");
  assert.equal((await make({ from: "now" }).drain()).messages, 0);
  await nats.remake(stream);
  for (const n of [1, 2, 3]) await send("a", String(n));
  assert.equal((await make({ from: "now" }).drain()).published, 3);
  const rows = await sql("select payload from hark.log order by id");
  assert.deepEqual(rows.map(({ payload }) => payload), [1, 2, 3]);
});

test("what cannot be read or stored becomes a dead letter, and can be redriven", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { db, make, send } = it;
  await send("a", "1");
  await send("a", "no json");
  await send("a", '"nul \\u0000"');
  await send("a", "4");
  await make().drain();
  assert.deepEqual((await sql("select payload from hark.log order by id")).map((r) => r.payload), [
    1,
    4,
  ]);
  const dead = await Array.fromAsync(deadMessages(db, "in"));
  assert.deepEqual(dead.map(({ message }) => message.text()), ["no json", '"nul \\u0000"']);
  assert.match(dead[0]!.reason, /JSON/);
  const { published, left } = await redrive(db, "in", {
    map: (message) => ({ channel: "late", payload: message.text() }),
  });
  assert.deepEqual([published, left.length], [2, 0]);
  assert.equal((await Array.fromAsync(deadMessages(db, "in"))).length, 0);
});

test("a dead letter stays when one of a stream made anew has its number", async ({ url }) => {
  await using it = await setUp(url);
  const { db, make, send, nats, stream } = it;
  await send("a", "old, no json");
  await make().drain();
  await nats.remake(stream);
  await send("a", "new, no json");
  assert.equal((await make().drain()).dead, 1);
  const dead = await Array.fromAsync(deadMessages(db, "in"));
  assert.deepEqual(dead.map(({ message }) => message.sequence), [1, 1]);
  assert.deepEqual(dead.map(({ message }) => message.text()), ["old, no json", "new, no json"]);
  assert.equal(await discardMessage(db, "in", dead[0]!.number), true);
  const { published } = await redrive(db, "in", {
    map: (message) => ({ channel: "late", payload: message.text() }),
  });
  assert.equal(published, 1);
  assert.equal(await discardMessage(db, "in", dead[1]!.number), false);
});

test("map makes notifications, is tried again, and gives up after maxAttempts", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { make, send } = it;
  for (const text of ["flaky", "broken", "two", "none"]) await send("a", text);
  let calls = 0;
  await make({
    maxAttempts: 2,
    map(message) {
      const text = message.text();
      if (text === "flaky" && ++calls === 1) throw new Error("not yet");
      if (text === "broken") throw new Error("never");
      if (text === "none") return undefined;
      const one = { channel: "c", payload: text, key: "k" };
      return text === "two" ? [one, one] : one;
    },
  }).drain();
  const got = (await sql("select payload from hark.log order by id")).map(({ payload }) => payload);
  assert.deepEqual(got, ["flaky", "two", "two"]);
  assert.match((await sql("select reason from hark.inbox_dead"))[0].reason, /never/);
});

test("with dedupe, a message that was published twice is taken once", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { make, send, nats, stream } = it;
  await send("a", "1", { "Nats-Msg-Id": "x" });
  await nats.window(stream, 0.1);
  await until(async () => {
    await send("a", "1", { "Nats-Msg-Id": "x" });
    return (await nats.count(stream)) > 1;
  });
  await make({ dedupe: "1d" }).drain();
  assert.equal((await sql("select * from hark.log")).length, 1);
});

test("with dedupe, what a message became besides is not taken for another message", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { make, send } = it;
  for (const id of ["1", "10", "11"]) await send("a", id, { "Nats-Msg-Id": id });
  const map = (message: InboxMessage) =>
    ["x", "y"].slice(0, message.text() === "1" ? 2 : 1).map((half) => ({
      channel: "c",
      payload: message.text() + half,
    }));
  await make({ dedupe: "1d", map }).drain();
  const got = (await sql("select payload from hark.log order by id")).map(({ payload }) => payload);
  assert.deepEqual(got, ["1x", "1y", "10x", "11x"]);
});

test("with dedupe, messages whose long ids have one ending are both taken", async ({ url }) => {
  await using it = await setUp(url);
  const { make, send } = it;
  for (const n of ["1", "2"]) await send("a", n, { "Nats-Msg-Id": `${n}${"x".repeat(300)}` });
  const { published, repeated } = await make({ dedupe: "1d" }).drain();
  assert.deepEqual([published, repeated], [2, 0]);
});

test("with dedupe, a redrive leaves out a message that was sent again in the meantime", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { db, make, send, nats, stream } = it;
  const id = (name: string) => ({ "Nats-Msg-Id": name });
  let isBroken = true;
  const map = (message: InboxMessage) => {
    if (isBroken) throw new Error("the shop is closed");
    return { channel: "c", payload: message.json() as number };
  };
  const options: Partial<InboxOptions> = { dedupe: "1d", maxAttempts: 1, map };
  await send("a", "1", id("m1"));
  await send("a", "2", id("m2"));
  assert.equal((await make(options).drain()).dead, 2);
  isBroken = false;
  await nats.window(stream, 0.1);
  await until(async () => {
    await send("a", "1", id("m1"));
    return (await nats.count(stream)) > 2;
  });
  assert.equal((await make(options).drain()).published, 1);
  const { published, repeated, left } = await redrive(db, "in", { map });
  assert.deepEqual([published, repeated, left.length], [1, 1, 0]);
  const payloads = (await sql("select payload from hark.log order by id")).map((r) => r.payload);
  assert.deepEqual(payloads, [1, 2]);
  assert.deepEqual(await Array.fromAsync(deadMessages(db, "in")), []);
});

test("a relayed notification whose headers look like those of an event comes back as it was", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { db, stream, make } = it;
  const type = { "content-type": "application/cloudevents+json" };
  await notify(db, "orders", 1, { key: "k", headers: type });
  const event = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "other" };
  await notify(db, "orders", 2, { key: "k", headers: event });
  const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}` });
  await relay(db, { id: "out", channels: "orders", to }).drain();
  await make({ takeOwn: true }).drain();
  const rows = await sql("select channel, key, payload, headers from hark.log order by id");
  assert.deepEqual(rows.slice(2), rows.slice(0, 2));
});

test("a transaction takes few messages if they are large", async ({ url }) => {
  await using it = await setUp(url);
  const { make, send, nats, stream } = it;
  await send("a", "first");
  for (let n = 0; n < 30; n++) await send("a", "x".repeat(800_000));
  const sizes: number[] = [];
  let isFirst = true;
  await make({
    async map(message) {
      // Behind this one all others have been delivered, and wait.
      const wait = isFirst;
      isFirst = false;
      if (wait) {
        await until(async () => (await nats.look(stream)).consumers[0]!.num_ack_pending > 30);
      }
      return { channel: "c", payload: message.body.length };
    },
    onTaken: ({ messages }) => sizes.push(messages),
  }).drain();
  assert.equal(sizes.reduce((sum, size) => sum + size), 31);
  assert(Math.max(...sizes) <= 21, `${sizes} messages at a time, and 16 MB are 20`);
});

test("a second inbox of one name takes over, and the first one ends", async ({ url, sql }) => {
  await using it = await setUp(url);
  const { make, send, db } = it;
  const first = make();
  const ended = first.run().catch((error) => error.code);
  await first.ready;
  await send("a", "1");
  await until(async () => (await sql("select from hark.log")).length === 1);
  const second = make();
  const running = second.run();
  await second.ready;
  await notifyMany(db, [{ channel: "other" }]);
  for (let n = 2; n < 20; n++) await send("a", String(n));
  await until(async () =>
    (await sql("select from hark.log where channel <> 'other'")).length === 19
  );
  assert.equal(await ended, "CONFLICT");
  await second.stop();
  await running;
});
