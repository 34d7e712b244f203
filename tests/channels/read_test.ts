import assert from "node:assert/strict";
import { z } from "npm:zod@4.6.7";
import {
  channel,
  connect,
  Consumer,
  deadLetters,
  type Notification,
  notify,
  on,
  retry,
  subscribe,
  watch,
  watched,
} from "../../mod.ts";
import { deadGroups } from "../../src/operate/dead_groups.ts";
import { test } from "../harness/mod.ts";
import { first, type Made, orders, OrderV1, second } from "./_support/orders.ts";

const given = {
  id: "o-1",
  at: "2026-11-29T12:00:00.000Z",
  tags: ["a", "b"],
  cents: "12345678901234567890",
};
const made: Made = {
  id: "o-1",
  at: new Date(given.at),
  tags: new Set(["a", "b"]),
  cents: 12345678901234567890n,
};

for (const [library, typed] of Object.entries(orders)) {
  test(`dates, sets and bigints come back as a schema of ${library} makes them`, async (context) => {
    const db = context.use(await connect(context.url));
    await typed.notify(db, given);
    const seen: unknown[] = [];
    const see = (payload: unknown, n: Notification) => void seen.push(payload, n.payload);
    await new Consumer(db, { id: "table", handle: on(typed, see) }).drain();
    const handle = (n: Notification) => see(n.payload, n);
    await new Consumer(db, { id: "plain", channels: [typed, "other"], handle }).drain();
    await new Consumer(db, {
      id: "batch",
      channels: typed,
      handleBatch: (batch) => batch.forEach(handle),
    }).drain();
    class Reads extends Consumer {
      override readonly id = "class";
      override readonly channels = [typed];
      override handle = handle;
    }
    await new Reads(db).drain();
    for await (const n of subscribe(db, typed, { from: "beginning", follow: false })) handle(n);
    assert.deepEqual(seen, Array(10).fill(made));
    for await (const n of subscribe(db, [typed, "other"], { from: "beginning", follow: false })) {
      assert.deepEqual(n.payload, made);
      assert.deepEqual(JSON.parse(JSON.stringify(n)).payload, given);
    }
  });
}

test("schemas and handlers may be asynchronous, and each key stays in order", async (context) => {
  const db = context.use(await connect(context.url));
  const slow = channel("slow", z.number().refine((n) => Promise.resolve(n >= 0)))
    .key((n) => n % 3);
  await assert.rejects(slow.notify(db, -1), { code: "BAD_PAYLOAD" });
  for (let n = 0; n < 30; n++) await slow.notify(db, n);
  const seen: number[][] = [[], [], []];
  const handle = on(slow, async (n, { key }) => {
    await Promise.resolve();
    seen[Number(key)]!.push(n);
  }).on(slow, (n) => assert.equal(seen[n % 3]!.at(-1), n));
  assert.equal(await new Consumer(db, { id: "c", concurrency: 8, handle }).drain(), 30);
  for (const [key, all] of seen.entries()) {
    assert.deepEqual(all, Array.from({ length: 10 }, (_, i) => 3 * i + key));
  }
});

test("each channel has its handlers, one or several, and the consumer's channels follow from them", async (context) => {
  const db = context.use(await connect(context.url));
  const refunded = channel("orders.refunded", OrderV1);
  const seen: unknown[] = [];
  const consumer = new Consumer(db, {
    id: "c",
    handle: on(second, ({ currency }) => void seen.push(currency))
      .on(refunded, async ({ total }) => void seen.push(await total))
      .on(second, ({ id }, n) => void seen.push(id, n.channel))
      .on("plain", (payload) => void seen.push(payload)),
  });
  assert.deepEqual(consumer.channels, ["orders.paid", "orders.refunded", "plain"]);
  await second.notify(db, { id: "1", total: 1, currency: "CHF" });
  await refunded.notify(db, { id: "1", total: 5 });
  await notify(db, "plain", { a: 1 });
  assert.equal(await consumer.drain(), 3);
  assert.deepEqual(seen, ["CHF", "1", "orders.paid", 5, { a: 1 }]);
});

test("a handler for an event gets the notifications of that name, and otherwise gets the rest", async (context) => {
  const db = context.use(await connect(context.url));
  const seen: string[] = [];
  const by = (n: Notification) => n.payload.name;
  const events = on("order.paid", (event) => void seen.push(`paid ${event.id}`), { by })
    .on("order.sent", (event) => void seen.push(`sent ${event.id}`), { by });
  for (const [id, name] of ["order.paid", "order.lost", "order.sent"].entries()) {
    await notify(db, "events", { name, id });
  }
  const options = { channels: "events", from: "beginning" } as const;
  assert.equal(await new Consumer(db, { ...options, id: "dead", handle: events }).drain(), 2);
  assert.deepEqual(seen.splice(0), ["paid 0", "sent 2"]);
  const [dead] = await deadLetters(db, { consumer: "dead" });
  assert.match(
    dead!.error!,
    /^there is no handler for the event "order.lost" \(notification 2 on channel "events"\)$/,
  );
  const ignoring = events.otherwise("ignore");
  assert.equal(await new Consumer(db, { ...options, id: "ignore", handle: ignoring }).drain(), 3);
  assert.deepEqual(seen.splice(0), ["paid 0", "sent 2"]);
  const rest = events.otherwise((n) => void seen.push(`other ${n.payload.id}`));
  assert.equal(await new Consumer(db, { ...options, id: "rest", handle: rest }).drain(), 3);
  assert.deepEqual(seen, ["paid 0", "other 1", "sent 2"]);
});

test("otherwise gets decoded payloads of a typed channel without a handler", async (context) => {
  const db = context.use(await connect(context.url));
  await orders.zod.notify(db, given);
  const seen: unknown[] = [];
  await new Consumer(db, {
    id: "c",
    channels: [second, orders.zod],
    handle: on(second, () => assert.fail()).otherwise((n) => void seen.push(n.payload)),
  }).drain();
  assert.deepEqual(seen, [made]);
});

test("a channel without a handler is refused, and so is a table given as handleBatch", async (context) => {
  const db = context.use(await connect(context.url));
  const handle = on(second, () => {}) as never;
  assert.throws(() => new Consumer(db, { id: "c", channels: [second, "b"], handle }), {
    code: "BAD_OPTION",
    message: /channel "b" has no handler/,
  });
  assert.throws(() => new Consumer(db, { id: "c", channels: second, handleBatch: handle }), {
    code: "BAD_OPTION",
    message: /Give it as handle/,
  });
  assert.throws(() => on(second, () => {}).otherwise("drop" as never), { code: "BAD_OPTION" });
  assert.throws(() => on("a", () => {}, {} as never), { code: "BAD_OPTION", message: /by is/ });
});

test("in a batch, what fits no schema fails alone, and holds up its key only", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql(`select hark.notify('orders.paid', p::jsonb, k) from (values
    ('{"id": "1", "total": 1}', 'a'), ('{"id": "2"}', 'b'), ('{"id": "3", "total": 1}', 'b'),
    ('{"id": "4", "total": 1}', 'a')) v (p, k)`);
  const seen: string[] = [];
  await new Consumer(db, {
    id: "c",
    channels: second,
    handleBatch: (batch) => {
      for (const { payload, attempt } of batch) {
        seen.push(`${payload.id} ${payload.currency}, attempt ${attempt}`);
      }
    },
  }).drain();
  assert.deepEqual(seen, ["1", "4", "3"].map((id) => `${id} EUR, attempt 1`));
  const dead = await deadLetters(db, { consumer: "c" });
  assert.equal(dead.length, 1);
  assert.match(
    dead[0]!.error!,
    /fits no version of its schema: total: .*\(version 2\) \| total: .*\(version 1\)/,
  );
});

test("a subscription says why a payload cannot be read, and goes on", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "orders.paid", { id: 5 });
  await second.notify(db, { id: "1", total: 1, currency: "EUR" });
  await first.notify(db, { id: "2", total: 1 });
  const seen: unknown[] = [];
  for await (const n of subscribe(db, first, { from: "beginning", follow: false })) {
    seen.push(n.problem === undefined ? n.payload : n.problem);
    if (n.problem !== undefined) assert.throws(() => n.payload, { code: "BAD_PAYLOAD" });
    assert.equal(typeof n.payloadText, "string");
  }
  assert.match(
    String(seen[0]),
    /^the payload fits no version of its schema: id: .*\(notification 1 on channel "orders.paid"\)$/,
  );
  assert.match(String(seen[1]), /has version 2, and this program knows up to version 1$/);
  assert.deepEqual(seen[2], { id: "2", total: 1 });
});

test("dead letters of a schema are grouped by what does not fit, and the group is what retry takes", async (context) => {
  const db = context.use(await connect(context.url));
  for (const payload of [{ id: "1" }, { id: "2" }, { id: "3" }, { total: 1 }]) {
    await notify(db, "orders.paid", payload);
  }
  await new Consumer(db, { id: "c", handle: on(first, () => assert.fail()) }).drain();
  const groups = await deadGroups(db);
  assert.deepEqual(groups.map(({ error, count }) => [error, count]), [
    [
      "the payload fits no version of its schema: total: Invalid input: expected number, received undefined",
      3,
    ],
    [
      "the payload fits no version of its schema: id: Invalid input: expected string, received undefined",
      1,
    ],
  ]);
  assert.equal(await retry(db, "c", { error: groups[1]!.error! }), 1);
});

test("dead letters of a watch are grouped by what does not fit", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("create table people (id int primary key, email text)");
  await watch(db, "people", { payload: "full" });
  await context.sql("insert into people values (1, 'a'), (2, 'b')");
  const people = watched("public.people", { row: z.object({ id: z.int(), email: z.email() }) });
  await new Consumer(db, {
    id: "c",
    channels: people.channel,
    from: "beginning",
    handle: people.handler(() => assert.fail()),
  }).drain();
  assert.deepEqual((await deadGroups(db)).map(({ error, count }) => [error, count]), [
    ["the new row of public.people does not fit its schema: email: Invalid email address", 2],
  ]);
});
