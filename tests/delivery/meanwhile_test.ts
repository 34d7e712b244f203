/** Changes of what waits, by an operator and by a deployment, while workers are at it. */

import assert from "node:assert/strict";
import { connect, Consumer, DeadLetter, notifyMany, retry } from "../../mod.ts";
import "../faults/_support/logs.ts";
import { Gate, numbers, Running } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";

test("what is hurried again and again while it runs has each effect once", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("create table effects (n integer)");
  await context.sql("select hark.register('c', array['c'])");
  await notifyMany(db, numbers(1, 60).map((n) => ({ channel: "c", payload: n, key: `${n % 10}` })));
  const attempts = new Map<number, number>();
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    concurrency: 10,
    maxAttempts: 2,
    retry: { initial: 20, maximum: 20 },
    async handle({ payload: n }, { tx }) {
      const attempt = (attempts.get(n) ?? 0) + 1;
      attempts.set(n, attempt);
      await tx.query("insert into effects values ($1)", [n]);
      // Some are dead letters for a while.
      if (n % 3 === 0 && attempt < 4) throw new Error("not yet");
    },
  });
  const running = consumer.run();
  await until(async () => {
    await retry(db, "c", { all: true });
    const [{ done, left }] = await context.sql(
      `select (select count(distinct n)::int from effects) as done,
        (select count(*)::int from hark.waiting) + (select count(*)::int from hark.dead) as left`,
    );
    return done === 60 && left === 0;
  }, { deadline: 30_000, what: "all to be handled" });
  await consumer.stop();
  await running;
  const [{ count }] = await context.sql("select count(*)::int from effects");
  assert.equal(count, 60);
});

test("a worker that starts with a lower maxWaiting than what waits goes on with all of it", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, numbers(1, 200).map((payload) => ({ channel: "c", payload })));
  const options = { concurrency: 20, retry: { initial: 100, maximum: 100 }, maxAttempts: 1000 };
  {
    await using _ = new Running(db, {
      ...options,
      maxWaiting: 150,
      handle() {
        throw new Error("down");
      },
    });
    await until(async () => (await context.sql("select from hark.waiting")).length >= 50);
  }
  const after = context.use(new Running(db, { ...options, maxWaiting: 5 }));
  await after.atLeast(200);
  assert.equal(new Set(after.payloads).size, 200);
});

test("dead letters that are retried behind a newer one of their key come back, although they fill maxWaiting", async (context) => {
  const db = context.use(await connect(context.url));
  const publish = (...pairs: [key: string, payload: unknown][]) =>
    notifyMany(db, pairs.map(([key, payload]) => ({ channel: "c", key, payload })));
  const gate = new Gate("slow", 2);
  let isBroken = true;
  const running = context.use(
    new Running(db, {
      concurrency: 2,
      maxWaiting: 3,
      handle: async (notification, handling) => {
        if (isBroken) throw new DeadLetter("broken");
        await gate.handle(notification, handling);
      },
    }),
  );
  await publish(["k", 1], ["k", 2], ["k", 3]);
  await until(async () => (await context.sql("select from hark.dead")).length === 3);
  isBroken = false;
  // Both slots are taken, and 4 is ready.
  await publish(["a", "slow"], ["b", "slow"], ["k", 4]);
  await running.atLeast(5);
  assert.equal(await retry(db, "c", { all: true }), 3);
  await until(
    async () => (await context.sql("select from hark.partitions where halted = 'full'")).length > 0,
    { what: "the partition to be full" },
  );
  gate.open();
  await running.atLeast(9);
  assert.deepEqual(running.payloads.slice(5).sort(), [1, 2, 3, 4]);
});
