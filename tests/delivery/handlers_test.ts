import assert from "node:assert/strict";
import { connect, Consumer, type ConsumerOptions, notifyMany } from "../../mod.ts";
import { abortListeners, Inbox, test, type TestContext, until, within } from "../harness/mod.ts";
import { numbers, publish, Running } from "../faults/_support/running.ts";

async function publishKeyed(context: TestContext, ...names: string[]): Promise<void> {
  await notifyMany(
    context.admin,
    names.map((name) => ({ channel: "c", payload: name, key: name[0]! })),
  );
}

/** A consumer of batches that runs. */
class Batches implements AsyncDisposable {
  /** The payloads of each batch with their attempts, in order. */
  readonly inbox = new Inbox<string[]>();
  readonly #consumer: Consumer;
  readonly #done: Promise<void>;

  constructor(...[db, options]: [ConstructorParameters<typeof Consumer>[0], ConsumerOptions]) {
    const { handleBatch } = options;
    this.#consumer = new Consumer(db, {
      id: "c",
      channels: "c",
      ...options,
      handleBatch: (notifications, context) => {
        this.inbox.push(notifications.map((n) => `${n.payload}/${n.attempt}`));
        return handleBatch?.(notifications, context);
      },
    });
    this.#done = this.#consumer.run();
    this.#done.catch(() => {});
  }

  /** All that was handed over, in order. */
  get tries(): string[] {
    return this.inbox.items.flat();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await within(this.#consumer.stop(), { what: "the consumer to stop" });
    await this.#done;
  }
}

/** Waits until nothing waits and nothing is unread. */
async function settled(context: TestContext): Promise<void> {
  await until(async () => {
    const [row] = await context.sql(
      `select (select count(*)::int from hark.waiting) + (select sum(unread)::int from hark.status()) as left`,
    );
    return row.left === 0;
  }, { what: "all to be settled" });
}

test("a handler that takes longer than timeout has its signal aborted, and has failed", async (context) => {
  const db = context.use(await connect(context.url));
  const errors: string[] = [];
  await publish(context, 1, 2);
  const running = context.use(
    new Running(db, {
      timeout: 300,
      retry: { initial: 50, maximum: 50 },
      onError: (error, n) => errors.push(`${n.payload}/${n.attempt} ${error}`),
      handle: async (n, { signal }) => {
        if (n.payload !== 1 || n.attempt > 1) return;
        await new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason))
        );
      },
    }),
  );
  await running.atLeast(3);
  await settled(context);
  assert.deepEqual(
    running.inbox.items.map((n) => `${n.payload}/${n.attempt}`).toSorted(),
    ["1/1", "1/2", "2/1"],
  );
  assert.equal(errors.length, 1);
  assert.match(errors[0]!, /^1\/1 .*(timeout|300|time)/i);
});

test("a handler that never ends and ignores its signal is given up like one that fails; others go on", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, "a1", "b1", "a2");
  const running = context.use(
    new Running(db, {
      timeout: 200,
      maxAttempts: 2,
      concurrency: 2,
      stopTimeout: 500,
      retry: { initial: 50, maximum: 50 },
      handle: (n) => n.payload === "a1" ? new Promise(() => {}) : undefined,
    }),
  );
  await running.atLeast(4);
  await settled(context);
  assert.deepEqual(running.payloads.toSorted(), ["a1", "a1", "a2", "b1"]);
  assert.equal(running.payloads.at(-1), "a2");
  const [letter] = await context.sql("select payload, attempts from hark.dead");
  assert.deepEqual(letter, { payload: "a1", attempts: 2 });
});

test("a handler's call leaves nothing behind when it is over, however long the consumer runs", async (context) => {
  const db = context.use(await connect(context.url));
  const listeners = context.use(abortListeners());
  await publish(context, 1, 100);
  for (const options of [{ timeout: 60_000 }, { transactional: true }]) {
    let handled = 0;
    const running = context.use(
      new Running(db, {
        id: Object.keys(options)[0]!,
        from: "beginning",
        ...options,
        handle: async () => {
          await Promise.resolve();
          handled++;
        },
      }),
    );
    await until(() => handled === 100);
    await settled(context);
    assert(listeners.left < 50, `${listeners.left} listeners of 100 calls`);
    await running.stop();
  }
});

test("batches: one that is failed is tried again with those of its key; the others are not repeated", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, "a1", "b1", "a2", "c1", "b2", "a3");
  const batches = context.use(
    new Batches(db, {
      retry: { initial: 100, maximum: 100 },
      handleBatch: (notifications, { fail }) => {
        const b1 = notifications.find((n) => n.payload === "b1" && n.attempt === 1);
        if (b1 !== undefined) fail(b1, new Error("b1 is not ready"));
      },
    }),
  );
  await until(() => batches.tries.includes("b1/2"));
  await settled(context);
  assert.deepEqual(batches.inbox.items[0], ["a1/1", "b1/1", "a2/1", "c1/1", "b2/1", "a3/1"]);
  const again = batches.inbox.items.slice(1).flat().map((name) => name.slice(0, 2));
  assert.deepEqual(again, ["b1", "b2"], "and those of its key that came after it in the batch");
});

test("batches: an error fails all of them, and each is given up by its own count", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, "a1", "b1", "c1");
  const given: string[] = [];
  const batches = context.use(
    new Batches(db, {
      maxAttempts: 2,
      retry: { initial: 50, maximum: 50 },
      onDeadLetter: (error, n) => given.push(`${n.payload} ${(error as Error).message}`),
      handleBatch: (notifications) => {
        if (notifications.some((n) => n.payload === "b1")) throw new Error("b1 is bad");
      },
    }),
  );
  await until(() => given.some((line) => line === "b1 b1 is bad"));
  await settled(context);
  const rows = await context.sql("select payload, attempts from hark.dead order by id");
  assert(rows.some((row) => row.payload === "b1" && row.attempts === 2));
  for (const name of ["a1", "b1", "c1"]) {
    assert(batches.tries.includes(`${name}/2`), `${name} was tried again`);
  }
});

test("batches are as large as batchSize at most, and in order inside a key", async (context) => {
  const db = context.use(await connect(context.url));
  const names = numbers(1, 250).map((n) => `${"abcdefg"[n % 7]}${n}`);
  await publishKeyed(context, ...names);
  const batches = context.use(new Batches(db, { batchSize: 40, partitions: 3, concurrency: 2 }));
  await until(() => batches.tries.length >= 250);
  await settled(context);
  assert(batches.inbox.items.every((batch) => batch.length <= 40));
  assert(batches.inbox.items.length < 50, "and they are batches");
  const handled = batches.tries.map((name) => name.slice(0, -2));
  for (const key of "abcdefg") {
    const of = (list: string[]) => list.filter((name) => name[0] === key);
    assert.deepEqual(of(handled), of(names));
  }
});

test("hooks are called: after each success, each failure and each dead letter; their errors harm nothing", async (context) => {
  const db = context.use(await connect(context.url));
  const calls: string[] = [];
  await publish(context, 1, 3);
  context.use(
    new Running(db, {
      maxAttempts: 2,
      retry: { initial: 50, maximum: 50 },
      handle: (n) => {
        if (n.payload === 2) throw new Error("bad");
      },
      onHandled: (n) => {
        calls.push(`handled ${n.payload}`);
        throw new Error("a hook's own");
      },
      onError: (error, n) => {
        calls.push(`error ${n.payload}/${n.attempt} ${(error as Error).message}`);
        throw new Error("a hook's own");
      },
      onDeadLetter: (error, n) => {
        calls.push(`dead ${n.payload} ${(error as Error).message}`);
        throw new Error("a hook's own");
      },
    }),
  );
  await until(() => calls.some((call) => call.startsWith("dead")));
  await settled(context);
  assert.deepEqual(calls.toSorted(), [
    "dead 2 bad",
    "error 2/1 bad",
    "error 2/2 bad",
    "handled 1",
    "handled 3",
  ]);
});
