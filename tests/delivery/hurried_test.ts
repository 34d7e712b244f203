import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  type Database,
  DeadLetter,
  discard,
  notifyMany,
  retry,
  status,
} from "../../mod.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";
import { Gate, numbers, publish, Running } from "../faults/_support/running.ts";
import { startWorker } from "./_support/fleet.ts";

/** Longer than any test: what is tried again within it was hurried. */
const hours = { initial: "2h", maximum: "2h" };

/** Publishes payloads, each with a key. */
async function publishKeyed(context: TestContext, ...pairs: [key: string, payload: unknown][]) {
  await notifyMany(context.admin, pairs.map(([key, payload]) => ({ channel: "c", payload, key })));
}

/** What was handed to the handler, as `payload/attempt`. */
const tries = (running: Running) => running.inbox.items.map((n) => `${n.payload}/${n.attempt}`);

async function waitingRows(context: TestContext, count: number): Promise<void> {
  await until(
    async () =>
      (await context.sql("select from hark.waiting where consumer = 'c'")).length === count,
    { what: `${count} to wait` },
  );
}

async function settled(context: TestContext): Promise<void> {
  await waitingRows(context, 0);
  await until(
    async () => (await context.sql("select unread::int from hark.status()"))[0].unread === 0,
    { what: "all to be read" },
  );
}

/** A consumer whose handler fails at these payloads, until it is repaired. */
class Broken {
  readonly at: Set<unknown>;
  constructor(...at: unknown[]) {
    this.at = new Set(at);
  }
  readonly handle = (n: { payload: unknown }) => {
    if (this.at.has(n.payload)) throw new Error(`${n.payload} is broken`);
  };
  repair(): void {
    this.at.clear();
  }
}

async function broken(
  context: TestContext,
  at: unknown[],
  options: Partial<ConsumerOptions> = {},
): Promise<{ db: Database; running: Running; bug: Broken }> {
  const db = context.use(await connect(context.url));
  const bug = new Broken(...at);
  const running = context.use(new Running(db, { retry: hours, handle: bug.handle, ...options }));
  return { db, running, bug };
}

for (const concurrency of [1, 8]) {
  test(`what waits for hours is tried at once after a fix, in the order of its key, concurrency ${concurrency}`, async (context) => {
    await publishKeyed(context, ["a", 1], ["b", 2], ["a", 3], ["b", 4], ["a", 5]);
    const { db, running, bug } = await broken(context, [1, 2], { concurrency });
    await waitingRows(context, 5);
    const { consumers: [one] } = await status(db);
    const wait = one!.failing!.nextAttemptAt.getTime() - Date.now();
    assert(wait > 3_000_000 && wait <= 7_200_000, `next attempt in ${wait} ms`);
    bug.repair();
    assert.equal(await retry(db, "c", { ids: [1] }), 1);
    await waitingRows(context, 2);
    assert.equal(await retry(db, "c", { all: true }), 2);
    await settled(context);
    const ofKey = (...payloads: number[]) =>
      tries(running).filter((one) => payloads.includes(parseInt(one)));
    assert.deepEqual(ofKey(1, 3, 5), ["1/1", "1/2", "3/1", "5/1"]);
    assert.deepEqual(ofKey(2, 4), ["2/1", "2/2", "4/1"]);
  });

  test(`a discarded notification releases the rest of its key, and is not tried again, concurrency ${concurrency}`, async (context) => {
    await publishKeyed(context, ["a", 1], ["a", 2], ["a", 3], ["b", 4]);
    const { db, running } = await broken(context, [1], { concurrency });
    await waitingRows(context, 3);
    assert.equal(await discard(db, "c", { ids: [1, 2] }), 2);
    await settled(context);
    await publishKeyed(context, ["a", 5]);
    await running.atLeast(4);
    await settled(context);
    assert.deepEqual(tries(running).filter((one) => one !== "4/1"), ["1/1", "3/1", "5/1"]);
    assert.deepEqual(await context.sql("select id from hark.dead"), []);
  });
}

test("one that is behind a failed one is hurried with it", async (context) => {
  await publishKeyed(context, ["a", 1], ["a", 2], ["b", 3]);
  const { db, running, bug } = await broken(context, [1, 3]);
  await waitingRows(context, 3);
  bug.repair();
  assert.equal(await retry(db, "c", { ids: [2] }), 1);
  await waitingRows(context, 1);
  assert.deepEqual(tries(running), ["1/1", "3/1", "1/2", "2/1"]);
});

test("a retry that is asked for while the handler runs follows that attempt, and never runs beside it", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = new Gate(1);
  let running = 0;
  let most = 0;
  const consumer = context.use(
    new Running(db, {
      concurrency: 4,
      retry: hours,
      handle: async (n, handling) => {
        most = Math.max(most, ++running);
        try {
          if (n.payload === 1 && n.attempt === 1) throw new Error("broken");
          await gate.handle(n, handling);
          if (n.payload === 1 && n.attempt === 2) throw new Error("still broken");
        } finally {
          running--;
        }
      },
    }),
  );
  await publish(context, 1, 1);
  await waitingRows(context, 1);
  assert.equal(await retry(db, "c", { all: true }), 1);
  await gate.reached();
  for (const _ of numbers(1, 3)) assert.equal(await retry(db, "c", { all: true }), 1);
  await publish(context, 2, 2);
  await consumer.atLeast(3);
  gate.open();
  await settled(context);
  assert.deepEqual(tries(consumer).filter((one) => one.startsWith("1/")), ["1/1", "1/2", "1/3"]);
  assert.equal(most, 2); // 1, and 2 beside it
});

test("one that is discarded while its handler runs is not called again, and is no dead letter", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = new Gate(1);
  const consumer = context.use(
    new Running(db, {
      retry: hours,
      maxAttempts: 2,
      handle: async (n, handling) => {
        if (n.payload !== 1) return;
        if (n.attempt === 2) await gate.handle(n, handling);
        throw new Error("broken");
      },
    }),
  );
  await publishKeyed(context, ["a", 1], ["a", 2]);
  await waitingRows(context, 2);
  await retry(db, "c", { ids: [1] });
  await gate.reached();
  assert.equal(await discard(db, "c", { ids: [1] }), 1);
  gate.open();
  await settled(context);
  assert.deepEqual(tries(consumer), ["1/1", "1/2", "2/1"]);
  assert.deepEqual(await context.sql("select id from hark.dead"), []);
});

test("a dead letter that is retried and fails again waits as any other, although an older one is at work", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = new Gate(1);
  let isGivenUp = false;
  context.use(
    new Running(db, {
      concurrency: 2,
      retry: hours,
      handle: async (n, handling) => {
        await gate.handle(n, handling);
        if (n.payload !== 2) return;
        if (isGivenUp) throw new Error("still broken");
        isGivenUp = true;
        throw new DeadLetter("broken");
      },
    }),
  );
  await publish(context, 1, 2);
  await gate.reached();
  await until(async () => (await context.sql("select from hark.dead")).length === 1);
  assert.equal(await retry(db, "c", { all: true }), 1);
  await until(
    async () =>
      (await context.sql("select from hark.waiting where last_error = 'still broken'")).length > 0,
    { deadline: 10_000, what: "the failure to be stored" },
  ).finally(() => gate.open());
  assert.deepEqual(await context.sql("select id::int, state, attempts from hark.waiting"), [
    { id: 2, state: "failed", attempts: 1 },
  ]);
});

test("one that is discarded while its batch runs is not called again if that is rolled back for another one", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("create table effects (payload integer)");
  const gate = new Gate(1);
  const batches: string[] = [];
  let isBroken = true;
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    concurrency: 2,
    batchSize: 10,
    retry: hours,
    handleBatch: async (all, handling) => {
      const [first] = all;
      if (isBroken) return all.forEach((n) => handling.fail(n, new DeadLetter("broken")));
      batches.push(all.map((n) => n.payload).join());
      for (const { payload } of all) {
        await handling.tx.query("insert into effects values ($1)", [payload]);
      }
      if (first!.payload !== 1) return;
      await gate.handle(first!, handling);
      handling.fail(first!, new DeadLetter("still broken"));
    },
  });
  await publish(context, 1, 2);
  const done = consumer.run();
  context.use({ [Symbol.asyncDispose]: () => consumer.stop() });
  await until(async () => (await context.sql("select from hark.dead")).length === 2);
  isBroken = false;
  assert.equal(await retry(db, "c", { all: true }), 2);
  await gate.reached();
  assert.equal(await discard(db, "c", { ids: [2] }), 1);
  await publish(context, 3, 3);
  await until(() => batches.includes("3"));
  gate.open();
  await settled(context);
  assert.deepEqual(batches, ["1,2", "3"]);
  assert.deepEqual(await context.sql("select payload from effects"), [{ payload: 3 }]);
  await consumer.stop();
  await done;
});

test('with onFailure "block" a discarded notification releases its partition', async (context) => {
  await publish(context, 1, 4);
  const { db, running } = await broken(context, [2], { onFailure: "block" });
  await waitingRows(context, 1);
  assert.equal(await discard(db, "c", { ids: [2] }), 1);
  await running.atLeast(4);
  await settled(context);
  assert.deepEqual(tries(running), ["1/1", "2/1", "3/1", "4/1"]);
});

test("exactly once holds while all that waits is retried again and again", async (context) => {
  await context.sql("create table effects (payload integer)");
  const db = context.use(await connect(context.url));
  let failures = 60;
  const running = context.use(
    new Running(db, {
      transactional: true,
      concurrency: 4,
      partitions: 4,
      retry: hours,
      maxAttempts: 1000,
      handle: async (n, { tx }) => {
        await tx.query("insert into effects values ($1)", [n.payload]);
        if (n.payload as number % 10 === 0 && failures-- > 0) throw new Error("not yet");
      },
    }),
  );
  await publishKeyed(
    context,
    ...numbers(1, 100).map((n) => [`k${n % 17}`, n] as [string, number]),
  );
  await until(async () => {
    await retry(db, "c", { all: true });
    const [row] = await context.sql("select count(*)::int as n from effects");
    return row.n === 100;
  });
  await settled(context);
  const [row] = await context.sql(
    "select count(*)::int as all, count(distinct payload)::int as each from effects",
  );
  assert.deepEqual(row, { all: 100, each: 100 });
  assert(tries(running).some((one) => one.endsWith("/2")));
});

test("what is discarded without a worker stays discarded for the next one", async (context) => {
  await publishKeyed(context, ["a", 1], ["a", 2], ["b", 3]);
  const { db, running } = await broken(context, [1, 3]);
  await waitingRows(context, 3);
  await running.stop();
  assert.equal(await discard(db, "c", { ids: [1, 3] }), 2);
  const next = context.use(new Running(db, {}));
  await next.atLeast(1);
  await settled(context);
  assert.deepEqual(tries(next), ["2/1"]);
});

test("a worker that is killed and started again tries what waits at once, without counting it", async (context) => {
  await publish(context, 1, 2);
  await using first = startWorker(context.url, "first", {
    options: { retry: { initial: 7_200_000, maximum: 7_200_000 } },
    fails: [1],
    say: true,
  });
  await first.line(/^handled 2/);
  await waitingRows(context, 1);
  const due = await context.sql("select due_at from hark.waiting");
  first.kill("SIGKILL");
  await first.ended();
  const db = context.use(await connect(context.url));
  const second = new Running(db, {
    retry: hours,
    handle: () => {
      throw new Error("still broken");
    },
  });
  await second.atLeast(1);
  await second.stop();
  const [row] = await context.sql("select attempts, last_error, due_at from hark.waiting");
  assert.equal(row.last_error, "still broken");
  const later = Math.abs(row.due_at.getTime() - due[0].due_at.getTime());
  assert(later < patient(5000), `its next attempt moved by ${later} ms`);
});

for (
  const how of ["is stopped after the new one has started", "is killed and listens to nothing"]
) {
  test(`a deployment tries at once what waits if the old worker ${how}`, async (context) => {
    await publish(context, 1, 2);
    const listen = how.startsWith("is stopped");
    await using old = startWorker(context.url, "old", {
      options: { retry: { initial: 7_200_000, maximum: 7_200_000 }, lease: 1000 },
      connect: { listen },
      fails: [1],
      say: true,
    });
    await old.line(/^handled 2/);
    await waitingRows(context, 1);
    if (!listen) old.kill("SIGKILL");
    const db = context.use(await connect(context.url));
    const next = context.use(new Running(db, { lease: 1000 }));
    if (listen) {
      await until(async () => (await context.sql("select from hark.workers")).length === 2);
      old.kill("SIGTERM");
    }
    await old.ended();
    await next.atLeast(1, { deadline: 15_000 });
    await settled(context);
    assert.deepEqual(next.payloads, [1]);
  });
}

test("a second worker leaves the waiting ones of the first alone", async (context) => {
  await publish(context, 1, 1);
  const { db, running } = await broken(context, [1]);
  await waitingRows(context, 1);
  const second = context.use(new Running(db, {}));
  await until(async () =>
    (await context.sql("select from hark.workers where consumer = 'c'")).length === 2
  );
  await publish(context, 2, 3);
  await until(() => running.payloads.length + second.payloads.length === 3);
  assert.deepEqual([...tries(running), ...tries(second)].sort(), ["1/1", "2/1", "3/1"]);
});
