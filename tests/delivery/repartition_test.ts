import assert from "node:assert/strict";
import { connect, Consumer, type Database, seek, setPartitions, status } from "../../mod.ts";
import { output } from "../cli/_support/hark.ts";
import { numbers, publish, Running } from "../faults/_support/running.ts";
import { test, type TestContext, until } from "../harness/mod.ts";

/** Ids without a key are spread in turn: with four partitions, 1, 5, 9 … lie in partition 1. */
const partitions = 4;

class Held {
  broken = true;
  readonly running: Running;

  /** A consumer of four partitions that fails on notification 1, and stops its partition there. */
  constructor(db: Database, options: { maxWaiting?: number } = {}) {
    this.running = new Running(db, {
      partitions,
      ...options.maxWaiting === undefined ? { onFailure: "block" } : options,
      maxAttempts: 1_000_000, // or the worker gives them up within a second
      retry: { initial: 50, maximum: 50 },
      handle: ({ id }) => {
        if (this.broken && id % partitions === 1) throw new Error("out of paper");
      },
    });
  }

  handled(ids: number[]): boolean {
    const seen = new Set(this.running.inbox.items.map(({ id }) => id));
    return ids.every((id) => seen.has(id));
  }
}

/** Of these ids, those in other partitions than the one that is held up. */
const healthy = (from: number, to: number) =>
  numbers(from, to).filter((id) => id % partitions !== 1);

async function halted(db: Database) {
  const { consumers: [row] } = await status(db);
  return row?.halted ?? [];
}

const count = async ({ sql }: TestContext) =>
  (await sql("select partitions, next_partitions from hark.consumers"))[0];

test("a partition that a failure holds up is named by status, and no change of partitions begins", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const held = new Held(db);
  await using _ = held.running;
  await until(async () => (await halted(db)).length > 0);
  const [{ partition, reason, id, error }] = await halted(db) as [
    Awaited<ReturnType<typeof halted>>[0],
  ];
  assert.deepEqual([partition, reason, id, error], [1, "blocked", 1, "out of paper"]);
  assert.match(
    await output(["status"], { url: context.url }),
    /held up.*\n.*\n?c +1 +1 +.*hark discard c 1/,
  );
  await assert.rejects(setPartitions(db, "c", 8), {
    code: "CONFLICT",
    message:
      /partition 1 of consumer "c" is held up by notification 1, .*\(out of paper\).*hark discard/s,
  });
  await publish(context, 21, 40);
  await until(() => held.handled(healthy(1, 40)));
  held.broken = false;
  await until(() => held.handled(numbers(1, 40)));
  await until(async () => (await halted(db)).length === 0);
  await setPartitions(db, "c", 8);
  await until(async () => (await count(context)).partitions === 8);
});

test("a partition that is full of waiting notifications is named as well", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 40);
  const held = new Held(db, { maxWaiting: 3 });
  await using _ = held.running;
  await until(async () => (await halted(db)).length > 0);
  assert.deepEqual((await halted(db)).map((one) => [one.partition, one.reason]), [[1, "full"]]);
  await assert.rejects(setPartitions(db, "c", 8), { code: "CONFLICT" });
  held.broken = false;
  await until(() => held.handled(numbers(1, 40)));
});

test("a change that a partition holds up later is taken back, and all others go on", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  {
    const before = new Held(db);
    await using _ = before.running;
    await until(async () => (await halted(db)).length > 0);
  }
  // No worker has reported it yet, as when it fails just after the change began.
  await context.sql("update hark.partitions set halted = null");
  assert.equal(await setPartitions(db, "c", 8), "pending");
  const held = new Held(db);
  await using _ = held.running;
  await until(async () => (await count(context)).next_partitions === null);
  await publish(context, 21, 40);
  await until(() => held.handled(healthy(21, 40)));
  assert.equal((await count(context)).partitions, partitions);
  assert.equal((await halted(db))[0]?.id, 1);
});

/** A change that waits for a handler which does not return. */
async function pending(context: TestContext, db: Database) {
  await publish(context, 1, 20);
  const hangs = Promise.withResolvers<void>();
  const running = new Running(db, {
    partitions,
    concurrency: 4,
    handle: ({ id }) => id === 1 ? hangs.promise : undefined,
  });
  await running.atLeast(17);
  assert.equal(await setPartitions(db, "c", 8), "pending");
  return { running, open: hangs.resolve };
}

test("a change of partitions can be taken back while it waits, and delivery goes on", async (context) => {
  const db = context.use(await connect(context.url));
  const { running, open } = await pending(context, db);
  await using _ = running;
  assert.equal(await setPartitions(db, "c", 16), "pending", "or changed to another number");
  assert.equal(await setPartitions(db, "c", partitions), "done");
  await publish(context, 21, 40);
  await until(() =>
    healthy(21, 40).every((id) => running.inbox.items.some((one) => one.id === id))
  );
  open();
  await until(() => new Set(running.payloads).size === 40);
  assert.deepEqual(await count(context), { partitions, next_partitions: null });
});

test("a change taken back after the common point was set loses and repeats nothing", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  {
    await using first = new Running(db, { partitions });
    await first.atLeast(20);
  }
  // The partitions stand at different positions, and the change has set its common point.
  await context.sql("update hark.partitions set after_id = 1 where partition = 0");
  await publish(context, 21, 40);
  assert.equal(await setPartitions(db, "c", 8), "pending");
  const [{ barrier }] = await context.sql(
    "select barrier is not null as barrier from hark.consumers",
  );
  assert(barrier);
  assert.equal(await setPartitions(db, "c", partitions), "done");
  await publish(context, 41, 60);
  await using running = new Running(db, { partitions });
  await until(() => running.payloads.includes(60) && running.inbox.items.length >= 40);
  assert.deepEqual(running.payloads.toSorted((a, b) => Number(a) - Number(b)), numbers(21, 60));
});

test("a seek during a change of partitions moves all of them and ends the change", async (context) => {
  const db = context.use(await connect(context.url));
  const { running, open } = await pending(context, db);
  await using _ = running;
  await seek(db, "c", "beginning");
  open();
  assert.deepEqual(await count(context), { partitions: 8, next_partitions: null });
  await until(() => running.inbox.items.filter(({ id }) => id === 20).length === 2);
});

test("a drain that a failure holds up leaves word of it", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 8);
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    partitions,
    onFailure: "block",
    retry: { initial: 600_000, maximum: 600_000 },
    handle: ({ id }) => {
      if (id === 1) throw new Error("out of paper");
    },
  });
  assert.equal(await consumer.drain(), 6);
  assert.equal((await halted(db))[0]?.id, 1);
  await context.sql("update hark.partitions set after_id = 1 where partition = 0");
  await assert.rejects(setPartitions(db, "c", 8), { code: "CONFLICT" });
});
