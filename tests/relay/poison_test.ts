import assert from "node:assert/strict";
import { connect, deadLetters, notify } from "../../mod.ts";
import { deadMessages, inbox } from "../../src/inbox/mod.ts";
import { jetStream, relay } from "../../src/relay/mod.ts";
import { cutProxy, test as declare, type TestBody, until } from "../harness/mod.ts";
import { Nats, natsRuns, natsUrl } from "../harness/nats.ts";

const test = (name: string, body: TestBody) => declare(name, { ignore: !natsRuns }, body);

test("what NATS takes no subject or headers of becomes a dead letter, and holds up nothing else", async (context) => {
  const db = context.use(await connect(context.url));
  const nats = context.use(await Nats.open());
  const stream = await nats.stream();
  // Each letter is six in a subject: more than the server reads of one line.
  await notify(db, "orders", 1, { key: "ключ".repeat(250) });
  // Headers that are no texts are in one header of the message.
  await notify(db, "orders", 2, { key: "k2", headers: { more: { text: "x".repeat(1_200_000) } } });
  await notify(db, "orders", 3, { key: "k3" });
  const out = relay(db, {
    id: "out",
    channels: "orders",
    to: jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}.{key}` }),
  });
  const running = out.run();
  await nats.atLeast(stream, 1);
  await until(async () => (await deadLetters(db)).length === 2);
  await out.stop();
  await running;
  assert.deepEqual((await nats.all(stream)).map(({ text }) => text), ["3"]);
  const [long, large] = await deadLetters(db);
  assert.match(long!.error!, /the subject of notification 1 .* has 6\d{3} bytes/);
  assert.match(large!.error!, /too large for the stream/);
});

test("a message with what no text of PostgreSQL can have holds up none behind it", async (context) => {
  const db = context.use(await connect(context.url));
  const nats = context.use(await Nats.open());
  const stream = await nats.stream();
  // A parser shows the beginning of what is no JSON: here a NUL, and here half of a face.
  const bodies = ["\0\x01", `${"x".repeat(2)}${"😀".repeat(40)}`, `{"a":"${"😀".repeat(40)}" x`];
  for (const body of bodies) await nats.send(`${stream}.a`, body);
  await nats.send(`${stream}.a`, "1", { "X-Odd": "a\0b" });
  await nats.send(`${stream}.a`, "2");
  const { published, dead } = await inbox(db, { id: "in", servers: natsUrl, stream }).drain();
  assert.deepEqual([published, dead], [1, 4]);
  const letters = await Array.fromAsync(deadMessages(db, "in"));
  assert.deepEqual(letters.map(({ message }) => message.text()), [...bodies, "1"], "as they came");
});

test("what a relay waited for when it died is over once it runs again", async (context) => {
  const db = context.use(await connect(context.url));
  const nats = context.use(await Nats.open());
  const stream = await nats.stream();
  const to = jetStream({ servers: natsUrl, stream, subject: `${stream}.{channel}` });
  const out = relay(db, { id: "out", channels: "orders", to });
  await context.sql("select hark.notify('orders')");
  await out.drain();
  await context.sql("select hark.tell_trouble('relay', 'out', 'the connection to NATS is lost')");
  const trouble = async () =>
    (await context.sql("select trouble from hark.relay_status()"))[0]!.trouble;
  assert.equal(await trouble(), "the connection to NATS is lost");
  const running = out.run();
  await out.ready;
  await until(async () => await trouble() === null, { what: "the trouble to be over" });
  await out.stop();
  await running;
});

test("a relay that is stopped while it connects leaves no connection open", async (context) => {
  const db = context.use(await connect(context.url));
  const nats = context.use(await Nats.open());
  const stream = await nats.stream();
  const proxy = context.use(cutProxy(Number(new URL(natsUrl).port)));
  const to = jetStream({
    servers: proxy.through(natsUrl),
    stream,
    subject: `${stream}.{channel}`,
  });
  const out = relay(db, { id: "out", channels: "orders", to, stopTimeout: 0 });
  const running = out.run();
  await out.ready;
  proxy.silence();
  proxy.sever();
  await notify(db, "orders", 1);
  await until(() => proxy.connections > 0, { what: "a connection that gets no answer" });
  await out.stop();
  await running;
  proxy.resume();
  await until(() => proxy.connections === 0);
});
