import assert from "node:assert/strict";
import { connect, Consumer, type Database } from "../../mod.ts";
import { NEVER_POLL, numbers, publish, Reading, Running } from "../faults/_support/running.ts";
import { test } from "../harness/mod.ts";

test("a notification whose transaction commits after a higher id is delivered, once", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  const reading = context.use(
    new Reading(db, "c", { from: "beginning", pollInterval: NEVER_POLL }),
  );
  const late = await context.client();
  for (let round = 0; round < 10; round++) {
    await late.query("begin");
    const { rows: [{ id }] } = await late.query("select hark.notify('c', $1)::int as id", [
      JSON.stringify(`late ${round}`),
    ]);
    const [higher] = await publish(context, round, round);
    assert(higher! > id);
    await running.atLeast(round * 2 + 1);
    await reading.inbox.atLeast(round * 2 + 1);
    await late.query("commit");
    await running.atLeast(round * 2 + 2);
    await reading.inbox.atLeast(round * 2 + 2);
  }
  const expected = numbers(0, 9).flatMap((n) => [n, `late ${n}`]);
  assert.deepEqual(running.payloads, expected);
  assert.deepEqual(reading.payloads, expected);
});

async function drain(db: Database): Promise<unknown[]> {
  const seen: unknown[] = [];
  await new Consumer(db, { id: "d", channels: "c", handle: (n) => void seen.push(n.payload) })
    .drain();
  return seen;
}

test("a late commit is delivered also after a restart, of the worker and of its connections", async (context) => {
  const slow = await context.client();
  const slower = await context.client();
  await slow.query("begin; select hark.notify('c', '1')");
  await slower.query("begin; select hark.notify('c', '2')");
  await publish(context, 3, 5);
  {
    await using db = await connect(context.url);
    assert.deepEqual(await drain(db), [3, 4, 5]);
  }
  await slow.query("commit");
  await publish(context, 6, 6);
  {
    await using db = await connect(context.url);
    assert.deepEqual(await drain(db), [1, 6]);
  }
  {
    await using db = await connect(context.url);
    assert.deepEqual(await drain(db), []);
    await slower.query("commit");
    assert.deepEqual(await drain(db), [2]);
    assert.deepEqual(await drain(db), []);
  }
});

test("what is rolled back, wholly or to a savepoint, is never delivered", async (context) => {
  const db = context.use(await connect(context.url));
  const client = await context.client();
  await client.query("begin; select hark.notify('c', '1'); rollback");
  await client.query(
    "begin; select hark.notify('c', '2'); savepoint s; select hark.notify('c', '3')",
  );
  await client.query("rollback to s; select hark.notify('c', '4'); commit");
  await client.query("begin; savepoint s; select hark.notify('c', '5'); release s; commit");
  assert.deepEqual(await drain(db), [2, 4, 5]);
});

test("many writers that commit out of order: all of it arrives, per writer in order", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL, pageSize: 13 }));
  const writers = await Promise.all(numbers(0, 7).map(() => context.client()));
  await Promise.all(writers.map(async (client, writer) => {
    for (let n = 0; n < 40; n++) {
      await client.query("begin");
      for (let part = 0; part < 3; part++) {
        await client.query("select hark.notify('c', $1)", [JSON.stringify([writer, n * 3 + part])]);
      }
      await client.query(n % 9 === writer ? "rollback" : "commit");
    }
  }));
  const [{ count }] = await context.sql("select count(*)::int from hark.log");
  await running.atLeast(count);
  assert.equal(running.payloads.length, count);
  for (const writer of numbers(0, 7)) {
    const own = (running.payloads as [number, number][]).filter(([w]) => w === writer)
      .map(([, n]) => n);
    assert.deepEqual(own, own.toSorted((a, b) => a - b));
    assert.equal(new Set(own).size, own.length);
  }
});
