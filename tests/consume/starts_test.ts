import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  type Database,
  notify,
  type StartFrom,
} from "../../mod.ts";
import { numbers, publish } from "../faults/_support/running.ts";
import { test } from "../harness/mod.ts";

/** What a consumer handles when it is drained. */
async function drained(db: Database, options: ConsumerOptions = {}): Promise<unknown[]> {
  const seen: unknown[] = [];
  const handle = (n: { payload: unknown }) => void seen.push(n.payload);
  const consumer = new Consumer(db, { id: "c", channels: "c", handle, ...options });
  assert.equal(await consumer.drain(), seen.length);
  return seen;
}

test("a consumer that is registered after publishing gets all of it, by default", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 5);
  assert.deepEqual(await drained(db), numbers(1, 5));
  assert.deepEqual(await drained(db, { id: "also", from: "beginning" }), numbers(1, 5));
});

test('from "now" skips what was committed, not what a running transaction commits later', async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const client = await context.client();
  await client.query("begin");
  await client.query("select hark.notify('c', '4')");
  assert.deepEqual(await drained(db, { from: "now" }), []);
  await publish(context, 5, 6);
  await client.query("commit");
  assert.deepEqual(await drained(db, { from: "now" }), [4, 5, 6]);
});

test("from { id } begins with that very notification", async (context) => {
  const db = context.use(await connect(context.url));
  const ids = await publish(context, 1, 10);
  assert.deepEqual(await drained(db, { from: { id: ids[6]! } }), numbers(7, 10));
  assert.deepEqual(await drained(db, { id: "next", from: { id: ids[9]! + 1 } }), []);
  await publish(context, 11, 11);
  assert.deepEqual(await drained(db, { id: "next" }), [11]);
  await assert.rejects(drained(db, { id: "far", from: { id: 1_000_000 } }), {
    code: "BAD_OPTION",
    message: /cannot start at id 1000000/,
  });
});

test("from { time } gives at least all that was committed since", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 5);
  await context.sql("select hark.cut()");
  // A Date ends at milliseconds, the mark's time does not: the next millisecond is after it.
  const [{ time }] = await context.sql("select clock_timestamp() + interval '1 ms' as time");
  await publish(context, 6, 9);
  assert.deepEqual(await drained(db, { from: { time } }), numbers(6, 9), "a mark lies between");
  const early = new Date(0);
  assert.deepEqual(await drained(db, { id: "early", from: { time: early } }), numbers(1, 9));
  const late = new Date(Date.now() + 3_600_000);
  const seen = await drained(db, { id: "late", from: { time: late } });
  assert.deepEqual(seen, [], "the readers before have cut a mark behind them all");
});

test("a second run goes on where the first ended, whatever it says of a start", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 4);
  assert.deepEqual(await drained(db), numbers(1, 4));
  const [id] = await publish(context, 5, 6);
  const starts: StartFrom[] = ["now", { id: 1 }, { time: new Date(0) }, "beginning"];
  for (const from of starts) {
    assert.deepEqual(await drained(db, { from }), [5, 6], JSON.stringify(from));
    await context.sql(
      "update hark.partitions set seen = 0, target = null, last_id = 0, after_id = $1::bigint - 1",
      [id],
    );
  }
});

test("wrong starts are refused before anything is registered", async (context) => {
  const db = context.use(await connect(context.url));
  const wrong = [
    "end",
    null,
    0,
    {},
    { id: 0 },
    { id: 1.5 },
    { id: "1" },
    { time: "yesterday" },
    { time: new Date(NaN) },
    { id: 1, time: new Date() },
  ];
  for (const from of wrong) {
    if (from === null) continue;
    const make = () => new Consumer(db, { id: "c", channels: "c", from: from as StartFrom });
    assert.throws(make, { code: "BAD_OPTION", message: /^from/ }, JSON.stringify(from));
  }
  assert.deepEqual(await context.sql("select * from hark.consumers"), []);
});

test("several channels are read in one order; others are not read", async (context) => {
  const db = context.use(await connect(context.url));
  for (const n of numbers(1, 12)) await notify(db, ["a", "b", "other"][n % 3]!, n);
  const seen = await drained(db, { channels: ["a", "b", "a"] });
  assert.deepEqual(seen, [1, 3, 4, 6, 7, 9, 10, 12]);
});

test("channels that change are kept: a new one is delivered from where the consumer stands", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2, "a");
  await publish(context, 3, 4, "b");
  assert.deepEqual(await drained(db, { channels: "a" }), [1, 2]);
  await publish(context, 5, 5, "b");
  assert.deepEqual(await drained(db, { channels: ["a", "b"] }), [5]);
  await publish(context, 6, 6, "a");
  await publish(context, 7, 7, "b");
  assert.deepEqual(await drained(db, { channels: "b" }), [7]);
});
