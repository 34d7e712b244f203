import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { test, until, within } from "../harness/mod.ts";
import { numbers, Running } from "../faults/_support/running.ts";

test("a partition that is blocked keeps no other one of its worker from being read", async (context) => {
  const db = context.use(await connect(context.url));
  // Ids without a key are spread in turn: 1, 3, 5 … lie in partition 1.
  await context.sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 60) n");
  const running = context.use(
    new Running(db, {
      partitions: 2,
      onFailure: "block",
      readAhead: 20,
      pageSize: 10,
      retry: { initial: 600_000, maximum: 600_000 },
      handle: ({ id }) => {
        if (id === 1) throw new Error("blocked");
      },
    }),
  );
  await running.atLeast(31);
  const even = running.inbox.items.map(({ id }) => id).filter((id) => id % 2 === 0);
  assert.equal(new Set(even).size, 30);
});

test("drain() ends where too many wait, and leaves the rest to the next run", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("select hark.notify('c', to_jsonb(n), n::text) from generate_series(1, 50) n");
  let broken = true;
  const drain = () =>
    within(
      new Consumer(db, {
        id: "c",
        channels: "c",
        maxWaiting: 5,
        pageSize: 10,
        retry: { initial: 20_000, maximum: 20_000 },
        handle() {
          if (broken) throw new Error("all fail");
        },
      }).drain(),
      { deadline: 15_000, what: "drain() to end" },
    );
  assert.equal(await drain(), 0);
  broken = false;
  await context.sql("update hark.waiting set due_at = clock_timestamp()");
  assert.equal(await drain(), 50);
});

test("what waited behind a failed one of its key comes at once after it, one after the other", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("select hark.notify('c', to_jsonb(n), 'k') from generate_series(1, 400) n");
  let failed = false;
  const running = context.use(
    new Running(db, {
      retry: { initial: 300, maximum: 300 },
      handle() {
        if (failed) return;
        failed = true;
        throw new Error("once");
      },
    }),
  );
  // Were each of them to wait for the next acknowledgement, it would take more than a minute.
  await running.atLeast(401, { deadline: 15_000 });
  assert.deepEqual(running.payloads, [1, ...numbers(1, 400)]);
});

test("a worker stores once that a partition is halted, not with each heartbeat", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(
    new Running(db, {
      partitions: 2,
      onFailure: "block",
      retry: { initial: 600_000, maximum: 600_000 },
      handle: ({ id }) => {
        if (id === 1) throw new Error("blocked");
      },
    }),
  );
  const stored = "select xmin::text from hark.partitions where halted = 'blocked'";
  await context.sql("select hark.notify('c', '1')");
  await until(async () => (await context.sql(stored)).length === 1);
  const before = await context.sql(stored);
  const [{ other }] = await context.sql(
    "select n::text as other from generate_series(1, 50) n where hark.partition_of(n::text, 0, 2) = 0 limit 1",
  );
  for (const count of [2, 3, 4]) {
    await context.sql("select hark.request_look('c')");
    await context.sql("select hark.notify('c', '1', $1)", [other]);
    await running.atLeast(count);
  }
  assert.deepEqual(await context.sql(stored), before);
});
