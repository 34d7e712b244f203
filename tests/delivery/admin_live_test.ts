import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { said } from "../faults/_support/logs.ts";
import { Gate, NEVER_POLL, numbers, publish, Running } from "../faults/_support/running.ts";

test("a paused consumer finishes what it is at and begins nothing, and goes on when it is resumed", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = new Gate(3);
  const running = context.use(
    new Running(db, { pollInterval: NEVER_POLL, handle: gate.handle }),
  );
  const other = context.use(new Running(db, { id: "other", pollInterval: NEVER_POLL }));
  await publish(context, 1, 5);
  await gate.reached();
  const since = Date.now();
  assert.equal((await context.sql("select hark.pause('c') as news"))[0].news, true);
  await said("info", /^c is paused/, since);
  gate.open();
  await publish(context, 6, 10);
  await other.atLeast(10);
  assert.deepEqual(running.payloads, [1, 2, 3], "nothing is begun");
  await until(
    async () =>
      Number(
        (await context.sql("select handled from hark.partitions where consumer = 'c'"))[0].handled,
      ) === 3,
    { what: "what it was at to be finished" },
  );
  assert.equal((await context.sql("select hark.resume('c') as news"))[0].news, true);
  await running.atLeast(10, { deadline: 5000 });
  assert.deepEqual(running.payloads, numbers(1, 10));
});

test("a worker that starts while its consumer is paused waits for the end of it", async (context) => {
  const db = context.use(await connect(context.url));
  const first = new Running(db, {});
  await publish(context, 1, 2);
  await first.atLeast(2);
  await first.stop();
  await context.sql("select hark.pause('c')");
  await publish(context, 3, 5);
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  const other = context.use(new Running(db, { id: "other" }));
  await other.atLeast(5);
  await until(async () =>
    (await context.sql("select from hark.workers where consumer = 'c'")).length === 1
  );
  assert.deepEqual(running.payloads, []);
  await context.sql("select hark.resume('c')");
  await running.atLeast(3, { deadline: 5000 });
  assert.deepEqual(running.payloads, [3, 4, 5]);
});

test("a live consumer is moved: to the beginning, to an id, to the end", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { partitions: 1, pollInterval: NEVER_POLL }));
  const ids = await publish(context, 1, 5);
  await running.atLeast(5);
  await context.sql("select hark.seek('c', 'beginning')");
  await running.atLeast(10, { deadline: 8000 });
  assert.deepEqual(running.payloads.slice(5), numbers(1, 5));
  await context.sql("select hark.seek('c', 'id', $1)", [ids[3]]);
  await running.atLeast(12, { deadline: 8000 });
  assert.deepEqual(running.payloads.slice(10), [4, 5]);
  const since = Date.now();
  await context.sql("select hark.pause('c')");
  await said("info", /c is paused/, since);
  await publish(context, 6, 8);
  await context.sql("select hark.seek('c', 'end')");
  await context.sql("select hark.resume('c')");
  await publish(context, 9, 9);
  await running.atLeast(13, { deadline: 8000 });
  assert.deepEqual(running.payloads.slice(12), [9], "what was published before is skipped");
});

test("a consumer that is moved while a handler runs begins there; the handler's result does not count", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = new Gate(3);
  await publish(context, 1, 5);
  const running = context.use(new Running(db, { handle: gate.handle }));
  await gate.reached();
  await context.sql("select hark.seek('c', 'beginning')");
  gate.open();
  await running.atLeast(8);
  await until(async () =>
    (await context.sql("select sum(unread)::int as unread from hark.status()"))[0].unread === 0
  );
  // It may have begun the next ones before it heard of it.
  assert.deepEqual(running.payloads.slice(0, 3), numbers(1, 3));
  assert.deepEqual(running.payloads.slice(-5), numbers(1, 5));
});

test("a range is replayed to one live consumer; the other one does not see it", async (context) => {
  const db = context.use(await connect(context.url));
  const a = context.use(new Running(db, { id: "a", pollInterval: NEVER_POLL }));
  const b = context.use(new Running(db, { id: "b", pollInterval: NEVER_POLL }));
  const ids = await publish(context, 1, 8);
  await Promise.all([a.atLeast(8), b.atLeast(8)]);
  await until(async () =>
    (await context.sql("select sum(unread)::int as unread from hark.status()"))[0].unread === 0
  );
  await context.sql("select hark.replay('a', $1, $2)", [ids[2], ids[4]]);
  await a.atLeast(11, { deadline: 8000 });
  await publish(context, 9, 9);
  await Promise.all([a.atLeast(12), b.atLeast(9)]);
  await until(async () => (await context.sql("select from hark.waiting")).length === 0);
  assert.deepEqual(a.payloads, [...numbers(1, 8), 3, 4, 5, 9]);
  assert.deepEqual(b.payloads, numbers(1, 9));
});

test("a long replay to partitions under load: each of the range once more, each key in order", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { partitions: 4, concurrency: 4 }));
  await context.sql(
    "select hark.notify('c', to_jsonb(n), 'k' || n % 20) from generate_series(1, 3000) n",
  );
  await running.atLeast(3000);
  await until(async () =>
    (await context.sql("select sum(unread)::int as unread from hark.status()"))[0].unread === 0
  );
  await context.sql("select hark.replay('c', (select min(id) from hark.log))");
  await context.sql(
    "select hark.notify('c', to_jsonb(n), 'k' || n % 20) from generate_series(3001, 3200) n",
  );
  await running.atLeast(6200, { deadline: 30_000 });
  await until(async () =>
    (await context.sql("select from hark.waiting union all select from hark.replays")).length === 0
  );
  const times = new Map<number, number>();
  for (const n of running.payloads as number[]) times.set(n, (times.get(n) ?? 0) + 1);
  assert(numbers(1, 3000).every((n) => times.get(n) === 2), "what was handled comes once more");
  assert(numbers(3001, 3200).every((n) => times.get(n) === 1), "the rest once");
  const again = running.payloads.slice(3000) as number[];
  for (let key = 0; key < 20; key++) {
    const replayed = again.filter((n) => n <= 3000 && n % 20 === key);
    assert.deepEqual(replayed, replayed.toSorted((a, b) => a - b));
  }
});

test("a consumer that is removed ends its worker with an error that says so", async (context) => {
  const db = context.use(await connect(context.url));
  const running = new Running(db, { lease: 2000 });
  await publish(context, 1, 1);
  await running.atLeast(1);
  await context.sql("select hark.remove_consumer('c')");
  await assert.rejects(running.done, { code: "NO_CONSUMER" });
});
