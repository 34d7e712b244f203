import assert from "node:assert/strict";
import { channel, connect, Consumer, deadLetters, notify, on, retry, status } from "../../mod.ts";
import { said } from "../faults/_support/logs.ts";
import { NEVER_POLL, Running } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";
import { first, OrderV1, OrderV2, OrderV3, second, third } from "./_support/orders.ts";

test("older payloads are upgraded step by step, and those from SQL by the newest schema that accepts", async (context) => {
  const db = context.use(await connect(context.url));
  await first.notify(db, { id: "1", total: 1 });
  await second.notify(db, { id: "2", total: 2, currency: "CHF" });
  await third.notify(db, { id: "3", cents: 300, currency: "USD" });
  await context.sql(`select hark.notify('orders.paid', p::jsonb) from unnest(array[
    '{"id": "4", "total": 4}', '{"id": "5", "total": 5, "currency": "CHF"}',
    '{"id": "6", "cents": 600, "total": 1, "currency": "USD"}']) p`);
  await notify(db, "orders.paid", { id: "7", total: 7 }, { headers: { "hark-version": "x" } });
  const seen: unknown[] = [];
  await new Consumer(db, { id: "c", handle: on(third, (order) => void seen.push(order)) }).drain();
  assert.deepEqual(seen, [
    { id: "1", cents: 100, currency: "EUR" },
    { id: "2", cents: 200, currency: "CHF" },
    { id: "3", cents: 300, currency: "USD" },
    { id: "4", cents: 400, currency: "EUR" },
    { id: "5", cents: 500, currency: "CHF" },
    { id: "6", cents: 600, currency: "USD" },
    { id: "7", cents: 700, currency: "EUR" },
  ]);
});

test("a payload that fits no version, or does not fit after its upgrade, is a dead letter that says where", async (context) => {
  const db = context.use(await connect(context.url));
  const broken = channel("orders.paid", OrderV3)
    .from(OrderV2, (old) => Promise.resolve({ ...old, cents: old.total }))
    .from(OrderV1, () => ({ id: "1", total: 1 }) as never);
  await notify(db, "orders.paid", { id: "1", total: "x" });
  await notify(db, "orders.paid", { id: "1" }, { headers: { "hark-version": 2 } });
  await first.notify(db, { id: "1", total: 1 });
  await second.notify(db, { id: "1", total: 0.5, currency: "EUR" });
  await new Consumer(db, { id: "c", handle: on(broken, () => assert.fail()) }).drain();
  const errors = (await deadLetters(db, { consumer: "c" })).map(({ error }) => error!).toSorted();
  const wanted = [
    /^the payload does not fit the schema of its version: total: .*currency: .* \(version 2\) \(notification 2 /,
    /^the payload fits no version of its schema: cents: .*\(version 3\) \| total: .*\(version 2\) \| total: .*\(notification 1 /,
    /^the upgraded payload does not fit the next version: cents: .*\(version 2 upgraded to 3\) \(notification 4 /,
    /^the upgraded payload does not fit the next version: currency: .*\(version 1 upgraded to 2\) \(notification 3 /,
  ];
  assert.equal(errors.length, 4);
  for (const [i, error] of errors.entries()) assert.match(error, wanted[i]!);
});

test("what is newer than the program waits with its key, counts no attempt, and is said aloud", async (context) => {
  const db = context.use(await connect(context.url));
  const since = Date.now();
  const handled: string[] = [];
  const options = {
    id: "c",
    concurrency: 4,
    maxAttempts: 1,
    onError: () => assert.fail("no failure"),
    onDeadLetter: () => assert.fail("no dead letter"),
  };
  const old = () =>
    new Consumer(db, { ...options, handle: on(first, ({ id }) => void handled.push(id)) });
  await second.notify(db, { id: "a", total: 1, currency: "CHF" });
  await first.notify(db, { id: "a", total: 2 });
  await first.notify(db, { id: "b", total: 3 });
  assert.equal(await old().drain(), 1);
  assert.deepEqual(handled, ["b"]);
  await said(
    "warning",
    /notification 1 waits, with its key, for a worker of a newer program: .*has version 2, and this program knows up to version 1/,
    since,
  );
  // Also after a restart of the old program, and when an operator asks for an attempt at once.
  assert.equal(await old().drain(), 0);
  await retry(db, "c", { all: true });
  assert.equal(await old().drain(), 0);
  const [one] = (await status(db)).consumers;
  assert.equal(one!.waiting, 2);
  assert.equal(one!.failing, null);
  assert.equal(one!.dead, 0);
  assert.equal(one!.newer!.count, 1);
  assert.equal(one!.newer!.id, 1);
  assert.match(one!.newer!.reason, /has version 2/);
  const rows = await context.sql(
    "select id::integer, state, attempts from hark.waiting order by id",
  );
  assert.deepEqual(rows, [
    { id: 1, state: "newer", attempts: 0 },
    { id: 2, state: "behind", attempts: 0 },
  ]);
  const seen: unknown[] = [];
  const handle = on(second, (order, { attempt }) => void seen.push({ ...order, attempt }));
  assert.equal(await new Consumer(db, { ...options, handle }).drain(), 2);
  assert.deepEqual(seen, [
    { id: "a", total: 1, currency: "CHF", attempt: 1 },
    { id: "a", total: 2, currency: "EUR", attempt: 1 },
  ]);
  assert.equal((await status(db)).consumers[0]!.newer, null);
});

test("in a batch, what is newer waits with its key, and the others are handled", async (context) => {
  const db = context.use(await connect(context.url));
  for (const [id, total] of [["a", 1], ["b", 2], ["a", 3], ["b", 4]] as const) {
    await (total === 1
      ? second.notify(db, { id, total, currency: "CHF" })
      : first.notify(db, { id, total }));
  }
  const seen: unknown[] = [];
  const program = (typed: typeof first | typeof second, batchSize: number) =>
    new Consumer(db, {
      id: "c",
      channels: typed,
      maxAttempts: 1,
      batchSize,
      handleBatch: (batch) => {
        for (const { payload, attempt } of batch) seen.push([payload.total, attempt]);
      },
    });
  assert.equal(await program(first, 10).drain(), 2);
  assert.deepEqual(seen.splice(0), [[2, 1], [4, 1]]);
  assert.equal(await program(second, 10).drain(), 2);
  assert.deepEqual(seen, [[1, 1], [3, 1]]);
  assert.deepEqual(await deadLetters(db), []);
});

test("a rolling change of a version loses nothing, makes no dead letter, and keeps each key in order", async (context) => {
  const db = context.use(await connect(context.url));
  const keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const handled = new Map<string, number[]>(keys.map((key) => [key, []]));
  const by = { first: 0, second: 0 };
  const options = {
    channels: "orders.paid",
    partitions: 4,
    concurrency: 4,
    pollInterval: NEVER_POLL,
    maxAttempts: 1,
  };
  const see = (program: keyof typeof by, { id, total }: { id: string; total: number }) => {
    handled.get(id)!.push(total);
    by[program]++;
  };
  const old = () =>
    new Running(db, { ...options, handle: on(first, (order) => see("first", order)) });
  const fresh = () =>
    new Running(db, {
      ...options,
      handle: on(second, (order) => {
        assert.equal(order.currency, order.total % 2 === 0 ? "CHF" : "EUR");
        see("second", order);
      }),
    });
  let total = 0;
  // Old and new publishers at once: each key gets both versions, in turn.
  const publish = async (rounds: number) => {
    for (const end = total + rounds; total < end;) {
      total++;
      for (const id of keys) {
        await (total % 2 === 0
          ? second.notify(db, { id, total, currency: "CHF" })
          : first.notify(db, { id, total }));
      }
    }
  };
  const workers = [old(), old()];
  await publish(5);
  await until(async () => (await status(db)).consumers[0]?.newer != null);
  context.use(fresh());
  await publish(5);
  await workers[0]!.stop();
  context.use(fresh());
  await publish(5);
  await workers[1]!.stop();
  await publish(5);
  await until(() => [...handled.values()].every((one) => one.length >= total));
  for (const [key, totals] of handled) {
    assert.deepEqual(totals, Array.from({ length: total }, (_, i) => i + 1), key);
  }
  assert(by.first > 0 && by.second > 0);
  assert.deepEqual(await deadLetters(db), []);
});
