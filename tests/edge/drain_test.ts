/** Draining where time is billed: limits, deadlines, other workers, and what is told of it. */

import assert from "node:assert/strict";
import { connect, Consumer, type ConsumerOptions, type Database, notifyMany } from "../../mod.ts";
import { pause, resume } from "../../mod.ts";
import { drain, type DrainResult } from "../../src/edge/mod.ts";
import { deferred, patient, test, type TestContext, within } from "../harness/mod.ts";

/** A database with some notifications on it. */
async function published({ url, use }: TestContext, count: number): Promise<Database> {
  const db = use(await connect(url));
  const many = Array.from({ length: count }, (_, n) => ({ channel: "c", payload: n, key: `${n}` }));
  await notifyMany(db, many);
  return db;
}

const consumer = (db: Database, options: ConsumerOptions) =>
  new Consumer(db, { id: "c", channels: "c", ...options });

const untouched = { failed: 0, dead: 0, left: 0 };

test("a drain tells that all is done, and what it has done", async (context) => {
  const db = await published(context, 10);
  const handle = ({ payload }: { payload: number }) => {
    if (payload === 3) throw new Error("not yet");
    if (payload > 7) throw new TypeError("never");
  };
  const retry = { initial: "1h", only: [Error], never: [TypeError] };
  const billing = consumer(db, { handle, retry });
  assert.deepEqual(await drain(billing), {
    handled: 7,
    failed: 1,
    dead: 2,
    left: 1,
    more: false,
    reason: "done",
  });
  assert.deepEqual(await drain(billing), {
    ...untouched,
    handled: 0,
    left: 1,
    more: false,
    reason: "done",
  });
});

test("a limit ends a drain, and the next one goes on where it ended", async (context) => {
  const db = await published(context, 25);
  const seen: number[] = [];
  const all = consumer(db, { handle: (n) => void seen.push(n.payload) });
  const results: DrainResult[] = [];
  do results.push(await drain(all, { limit: 10 })); while (results.at(-1)!.more);
  assert.deepEqual(seen, Array.from({ length: 25 }, (_, n) => n));
  assert.deepEqual(results.map(({ handled, reason }) => [handled, reason]), [
    [10, "limit"],
    [10, "limit"],
    [5, "done"],
  ]);
  assert.equal(await all.drain({ limit: 1 }), 0);
});

test("a limit holds for batches, and for handlers side by side", async (context) => {
  const db = await published(context, 40);
  const sizes: number[] = [];
  const batches = consumer(db, {
    id: "batches",
    batchSize: 7,
    handleBatch: (batch) => void sizes.push(batch.length),
  });
  assert.equal((await drain(batches, { limit: 17 })).handled, 17);
  assert.deepEqual(sizes, [7, 7, 3]);
  let running = 0;
  const side = consumer(db, {
    id: "side",
    concurrency: 4,
    async handle() {
      running++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    },
  });
  assert.deepEqual([(await drain(side, { limit: 6 })).handled, running], [6, 6]);
});

/**
 * Drains the consumer `id` of three notifications, whose second handler goes on past the deadline. Gives how many
 * partitions have an owner afterwards.
 */
async function overrun({ sql }: TestContext, db: Database, id: string): Promise<number> {
  const deadline = patient(1000);
  const aborted = deferred<unknown>("the handler's signal to abort");
  const slow = consumer(db, {
    id,
    handle: ({ payload }, { signal }) =>
      payload === 0 ? undefined : new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 10 * deadline);
        signal.addEventListener("abort", () => {
          clearTimeout(timer);
          aborted.resolve(signal.reason);
        });
      }),
  });
  assert.equal((await drain(slow, { limit: 1 })).handled, 1, "it is connected and registered");
  const begun = performance.now();
  const result = await within(drain(slow, { deadline }), { deadline: 8_000 });
  const took = Math.round(performance.now() - begun);
  console.log(`a deadline of ${deadline} ms, a handler of ${10 * deadline} ms: ${took} ms`);
  assert.equal((await aborted.wait() as Error).name, "TimeoutError");
  assert(took >= deadline - 10, `${took} ms`);
  assert.deepEqual(result, { ...untouched, handled: 0, left: 2, more: true, reason: "deadline" });
  const [{ owned }] = await sql(
    "select count(owner)::integer as owned from hark.partitions where consumer = $1",
    [id],
  );
  return owned;
}

test("at the deadline a handler's signal aborts, and what it had in hand comes again", async (context) => {
  const db = await published(context, 3);
  let tries = 1;
  const id = () => `c${tries}`;
  // A drain has a tenth of a second to release. It cannot while the server stands still: then another one tries.
  while (await overrun(context, db, id()) > 0) assert(++tries <= 5, "the partition is released");
  const seen: [number, number][] = [];
  const next = consumer(db, {
    id: id(),
    handle: (n) => void seen.push([n.payload, n.attempt]),
  });
  assert.equal((await drain(next)).reason, "done");
  assert.deepEqual(seen, [[1, 1], [2, 1]], "at once, and as a first attempt");
});

test("what a handler ends before the deadline counts", async (context) => {
  const db = await published(context, 2);
  const handlers: (() => void)[] = [];
  const called = deferred("the handler to be called");
  const one = consumer(db, {
    handle: () =>
      new Promise<void>((resolve) => {
        handlers.push(resolve);
        called.resolve();
      }),
  });
  const draining = drain(one, { deadline: patient(10_000) });
  await called.wait();
  handlers[0]!();
  const second = async () => {
    while (handlers.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    handlers[1]!();
  };
  await second();
  assert.deepEqual(await draining, { ...untouched, handled: 2, more: false, reason: "done" });
});

test("of eight drains at once, those without a partition return while the others work", async (context) => {
  const db = await published(context, 40);
  const open = deferred("the six to return");
  const events: string[] = [];
  let claimed = 0;
  const drains = Array.from({ length: 8 }, async (_, n) => {
    const worker = consumer(db, {
      partitions: 2,
      async handle() {
        claimed++;
        await open.wait({ deadline: 30_000 });
      },
    });
    const begun = performance.now();
    const result = await drain(worker, { wait: false });
    events.push(result.reason);
    if (events.length === 6) open.resolve();
    return { n, result, took: performance.now() - begun };
  });
  const results = await within(Promise.all(drains), { deadline: 40_000, what: "eight drains" });
  // The handlers wait for them, so they have returned first.
  assert.deepEqual(events.slice(0, 6), Array(6).fill("busy"));
  const busy = results.filter(({ result }) => result.reason === "busy" && result.handled === 0);
  console.log(
    `eight drains over two partitions: ${busy.length} returned after at most ` +
      `${Math.round(Math.max(...busy.map(({ took }) => took)))} ms`,
  );
  for (const { result } of busy) {
    if (result.handled === 0) {
      assert.deepEqual(result, { ...untouched, handled: 0, more: false, reason: "busy" });
    }
  }
  assert(claimed > 0);
  // Whatever was given back on the way is there for the next.
  const rest = await drain(consumer(db, { handle() {} }), { wait: false });
  assert.equal(rest.reason, "done");
  assert.equal(results.reduce((sum, { result }) => sum + result.handled, rest.handled), 40);
});

test("a drain that does not wait takes what another one leaves free", async (context) => {
  const db = await published(context, 20);
  const begun = deferred("the first to handle");
  const go = deferred("to go on");
  const first = consumer(db, {
    partitions: 4,
    async handle() {
      begun.resolve();
      await go.wait();
    },
  });
  const one = drain(first, { limit: 1 });
  await begun.wait();
  const busy = await drain(consumer(db, { handle() {} }), { wait: false });
  assert.equal(busy.reason, "busy");
  go.resolve();
  const { handled, more } = await one;
  assert.deepEqual([handled, more], [1, true]);
  const rest = await drain(consumer(db, { handle() {} }), { wait: false });
  assert.deepEqual(rest, { ...untouched, handled: 19, more: false, reason: "done" });
});

test("a drain that does not wait leaves a retry that is due later", async (context) => {
  const db = await published(context, 1);
  let attempts = 0;
  const failing = consumer(db, {
    retry: { initial: "1h" },
    handle() {
      if (++attempts === 1) throw new Error("once");
    },
  });
  const first = await drain(failing, { wait: false });
  assert.deepEqual(first, {
    handled: 0,
    failed: 1,
    dead: 0,
    left: 1,
    more: false,
    reason: "done",
  });
  await context.sql("update hark.waiting set due_at = clock_timestamp() + interval '300 ms'");
  assert.deepEqual(await drain(failing), {
    ...untouched,
    handled: 1,
    more: false,
    reason: "done",
  });
});

test("a stop and a pause are told", async (context) => {
  const db = await published(context, 5);
  const stop = new AbortController();
  const stopped = consumer(db, { handle: () => stop.abort() });
  assert.deepEqual(await drain(stopped, { signal: stop.signal }), {
    ...untouched,
    handled: 1,
    left: 4,
    more: true,
    reason: "stopped",
  });
  await pause(db, "c");
  const paused = await drain(stopped);
  assert.deepEqual([paused.handled, paused.more, paused.reason], [0, false, "paused"]);
  await resume(db, "c");
  assert.equal((await drain(stopped)).handled, 4);
});

test("wrong options are refused with what is right", async (context) => {
  const db = await published(context, 0);
  const one = consumer(db, { handle() {} });
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const refused = async (options: any, message: RegExp) =>
    await assert.rejects(drain(one, options), { code: "BAD_OPTION", message });
  await refused({ limit: 0 }, /^limit is 0\. Give a whole number of at least 1/);
  await refused({ deadline: "soon" }, /^deadline is "soon"\. Give whole milliseconds from 1/);
  await refused({ wait: "no" }, /^wait is "no"\. Give true or false/);
  await refused({ dedline: 1 }, /^drain has no option "dedline"\. Did you mean deadline\?/);
  await assert.rejects(drain({} as Consumer), { code: "BAD_OPTION", message: /Give a Consumer/ });
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  await assert.rejects(one.run({ limit: 1 } as any), { message: /^run has no option "limit"/ });
});
