/** Functions around a handler, what a handler knows of its worker, and what onHandled is told. */

import assert from "node:assert/strict";
import process from "node:process";
import {
  type Around,
  connect,
  Consumer,
  type ConsumerOptions,
  type Handled,
  type HandlingWorker,
  notifyMany,
} from "../../mod.ts";
import { test, type TestContext, within } from "../harness/mod.ts";
import { publish } from "../faults/_support/running.ts";

/** Drains a consumer. Returns what it was given to handle, and what its hooks were told. */
async function drained(context: TestContext, options: ConsumerOptions) {
  const db = context.use(await connect(context.url));
  const handled: Handled[] = [];
  const errors: string[] = [];
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    retry: { initial: 10, maximum: 10 },
    onHandled: (_, how) => handled.push(how),
    onError: (error) => errors.push((error as Error).message),
    ...options,
  });
  const count = await within(consumer.drain(), { what: "the drain" });
  return { count, handled, errors };
}

test("functions around a handler are called in their order, and see what it returns", async (context) => {
  const calls: string[] = [];
  const named = (name: string): Around => async ({ payload }, _, next) => {
    calls.push(`${name} before ${payload}`);
    const result = await next();
    calls.push(`${name} after ${result}`);
    return `${name}(${result})`;
  };
  await publish(context, 1, 1);
  const { handled } = await drained(context, {
    around: [named("a"), named("b")],
    handle: ({ payload }) => payload * 10,
  });
  assert.deepEqual(calls, ["a before 1", "b before 1", "b after 10", "a after b(10)"]);
  assert.equal(handled[0]!.result, "a(b(10))");
});

test("an error of a function around a handler fails the attempt, and one that it catches does not", async (context) => {
  await publish(context, 1, 3);
  const { count, errors, handled } = await drained(context, {
    around: async ({ payload, attempt }, _, next) => {
      if (payload === 1 && attempt === 1) throw new Error("not now");
      if (payload !== 2) return await next();
      try {
        return await next();
      } catch {
        return "caught";
      }
    },
    handle: ({ payload }) => {
      if (payload === 2) throw new Error("is caught");
      return payload;
    },
  });
  assert.deepEqual([count, errors], [3, ["not now"]]);
  assert.deepEqual(handled.map(({ result }) => result), ["caught", 3, 1]);
});

test("a function around a handler that does not await it neither hides its error nor lets the next of its key begin", async (context) => {
  await notifyMany(context.admin, [1, 2].map((payload) => ({ channel: "c", key: "k", payload })));
  let running = 0;
  let most = 0;
  const { count, errors } = await drained(context, {
    concurrency: 5,
    around: (_, __, next) => void next(),
    handle: async ({ payload, attempt }) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running--;
      if (payload === 1 && attempt === 1) throw new Error("late");
    },
  });
  assert.deepEqual([count, errors, most], [2, ["late"], 1]);
});

test("a function around a handler that fails while the handler runs waits for its end", async (context) => {
  await publish(context, 1, 1);
  let running = 0;
  const { errors } = await drained(context, {
    maxAttempts: 2,
    around: (_, __, next) => {
      void next();
      throw new Error("at once");
    },
    handle: async () => {
      assert.equal(++running, 1);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running--;
      throw new Error("unseen");
    },
  });
  assert.deepEqual(errors, ["at once", "at once"]);
});

test("a function around a handler that does not call it has handled the notification; one that calls it twice fails", async (context) => {
  await publish(context, 1, 2);
  const calls: number[] = [];
  const { count, errors } = await drained(context, {
    maxAttempts: 1,
    around: async ({ payload }, _, next) => {
      if (payload === 1) return;
      await next();
      await next();
    },
    handle: ({ payload }) => calls.push(payload),
  });
  assert.deepEqual([count, calls], [1, [2]]);
  assert.match(errors[0]!, /next\(\) was called twice/);
});

test("a function around a batch handler receives the batch, and around a transactional one its transaction", async (context) => {
  await context.admin.query("create table seen (n int)");
  await publish(context, 1, 3);
  const { handled } = await drained(context, {
    transactional: true,
    aroundBatch: async (batch, { tx }, next) => {
      await tx.query("insert into seen values ($1)", [batch.length]);
      return await next();
    },
    handleBatch: (batch) => batch.map(({ payload }) => payload).join(),
  });
  assert.deepEqual(handled.map(({ result }) => result), ["1,2,3", "1,2,3", "1,2,3"]);
  assert.deepEqual(await context.sql("select n from seen"), [{ n: 3 }]);
});

test("a class has functions around its handler as a field that uses its own fields", async (context) => {
  await publish(context, 1, 2);
  const db = context.use(await connect(context.url));
  class Billing extends Consumer<number> {
    override id = "c";
    override channels = "c";
    readonly lines: string[] = [];
    override around: Around<number> = async ({ payload }, _, next) => {
      this.lines.push(`${payload} ${await next()}`);
    };
    override handle({ payload }: { payload: number }) {
      return payload * 2;
    }
  }
  const billing = new Billing(db);
  await billing.drain();
  assert.deepEqual(billing.lines, ["1 2", "2 4"]);
});

for (const kind of ["handle", "handleBatch"] as const) {
  test(`context.worker tells ${kind} its process, its consumer and its partition`, async (context) => {
    await publish(context, 1, 20);
    const workers: HandlingWorker[] = [];
    await drained(context, {
      partitions: 2,
      [kind]: (_: unknown, { worker }: { worker: HandlingWorker }) => workers.push(worker),
    });
    const [row] = await context.sql("select count(*)::int as count from hark.consumers");
    assert.equal(row.count, 1);
    for (const { name, consumer, partition } of workers) {
      assert.match(name, new RegExp(`:${process.pid}$`));
      assert.equal(consumer, "c");
      assert(partition === undefined ? kind === "handleBatch" : [0, 1].includes(partition));
    }
    if (kind === "handle") {
      assert.deepEqual(new Set(workers.map(({ partition }) => partition)), new Set([0, 1]));
    }
  });
}

test("onHandled is told what the handler returned, the attempt and how long it took", async (context) => {
  await publish(context, 1, 3);
  const begun = performance.now();
  const { handled } = await drained(context, {
    handle: async ({ payload, attempt }) => {
      if (payload === 1) return "at once";
      if (payload === 3 && attempt === 1) throw new Error("again");
      await new Promise((resolve) => setTimeout(resolve, 60));
      return { payload };
    },
  });
  assert.deepEqual(handled.map(({ result, attempt }) => [result, attempt]), [
    ["at once", 1],
    [{ payload: 2 }, 1],
    [{ payload: 3 }, 2],
  ]);
  const times = handled.map(({ milliseconds }) => milliseconds);
  const all = performance.now() - begun;
  assert(times[0]! >= 0 && times[1]! >= 55 && times[2]! >= 55, times.join());
  assert(times.reduce((sum, time) => sum + time) <= all, `${times} of ${all}`); // one after the other
});
