/** A batch of which one has failed: the rest of its key keeps its place. */

import assert from "node:assert/strict";
import {
  type BatchHandler,
  connect,
  Consumer,
  type ConsumerOptions,
  DeadLetter,
  type Notification,
  notifyMany,
} from "../../mod.ts";
import { said, sentence } from "../faults/_support/logs.ts";
import { test, type TestContext, within } from "../harness/mod.ts";

const names = ["a1", "b1", "a2", "b2", "x", "b3", "a3", "y"];

/** Handles all of these in batches; the key is the first letter. Returns the effects, in order. */
async function effects(
  c: TestContext,
  handleBatch: (effect: (one: Notification) => void) => BatchHandler,
  options: ConsumerOptions = {},
): Promise<string[]> {
  const db = c.use(await connect(c.url));
  await notifyMany(
    db,
    names.map((name) => ({ channel: "c", payload: name, ...(name[1] ? { key: name[0]! } : {}) })),
  );
  const found: string[] = [];
  const all = Promise.withResolvers<void>();
  const handled = new Set<string>();
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    retry: { initial: 10, maximum: 10 },
    handleBatch: handleBatch(({ payload }) => found.push(payload)),
    onHandled({ payload }) {
      if (handled.add(payload).size === names.length) all.resolve();
    },
    ...options,
  });
  const running = consumer.run();
  await within(all.promise, { what: "all to be handled" });
  await consumer.stop();
  await running;
  return found;
}

/** Whether it is b1 at its first attempt. */
function fails({ payload, attempt }: Notification): boolean {
  return payload === "b1" && attempt === 1;
}

const expected = ["a1", "a2", "x", "a3", "y", "b1", "b2", "b3"];

test("after fail, a loop over the batch leaves out the rest of that key: its effects happen once, in order", async (c) => {
  const found = await effects(c, (effect) => (notifications, { fail }) => {
    for (const one of notifications) {
      if (fails(one)) fail(one, new Error("not yet"));
      else effect(one);
    }
  });
  assert.deepEqual(found, expected);
});

test("the same holds for a loop that awaits, and for entries()", async (c) => {
  const found = await effects(c, (effect) => async (notifications, { fail }) => {
    for (const [i, one] of notifications.entries()) {
      assert.equal(notifications[i], one);
      await Promise.resolve();
      if (fails(one)) fail(one);
      else effect(one);
    }
  });
  assert.deepEqual(found, expected);
});

test("another loop can ask what is behind a failure", async (c) => {
  const found = await effects(c, (effect) => (notifications, { fail, isBehindFailure }) => {
    notifications.forEach((one) => {
      if (fails(one)) fail(one);
      else if (!isBehindFailure(one)) effect(one);
    });
    const stranger = {} as Notification;
    assert.throws(() => isBehindFailure(stranger), { code: "BAD_OPTION", message: /not in this/ });
    assert.throws(() => fail(stranger), {
      code: "BAD_OPTION",
      message: /^fail\(\) was given \{\}/,
    });
  });
  assert.deepEqual(found, expected);
});

test("with block, all that is behind a failure in its partition is left out", async (c) => {
  const found = await effects(
    c,
    (effect) => (notifications, { fail }) => {
      for (const one of notifications) {
        if (fails(one)) fail(one);
        else effect(one);
      }
    },
    { onFailure: "block" },
  );
  assert.deepEqual(found, names);
});

test("a batch without a failure is the whole batch, by index and by loop", async (c) => {
  const sizes: number[] = [];
  const found = await effects(c, (effect) => (notifications) => {
    sizes.push(notifications.length, [...notifications].length, Array.from(notifications).length);
    notifications.map(effect);
  });
  assert.deepEqual(found, names);
  assert.deepEqual(sizes, [8, 8, 8]);
});

for (const concurrency of [1, 4]) {
  test(`what is behind a notification that is given up at once counts no failed attempt, concurrency ${concurrency}`, async (c) => {
    const db = c.use(await connect(c.url));
    await notifyMany(db, ["a", "b", "c"].map((payload) => ({ channel: "c", payload, key: "k" })));
    const handled: string[] = [];
    await new Consumer(db, {
      id: "c",
      channels: "c",
      concurrency,
      onError: (error) => assert.equal((error as Error).message, "hopeless"),
      handleBatch(batch, { fail }) {
        for (const one of batch) {
          if (one.payload === "a") fail(one, new DeadLetter("hopeless"));
          else handled.push(`${one.payload}, attempt ${one.attempt}`);
        }
      },
    }).drain();
    assert.deepEqual(handled, ["b, attempt 1", "c, attempt 1"]);
  });
}

for (const transactional of [false, true]) {
  test(
    `a failure that is reported after the batch handler has returned is logged as too late${
      transactional ? ", in a transaction" : ""
    }`,
    async (c) => {
      const db = c.use(await connect(c.url));
      const [id] = await notifyMany(db, [{ channel: "c", payload: "a" }]);
      const since = Date.now();
      let forgotten = () => {};
      const handled = await new Consumer(db, {
        id: "c",
        channels: "c",
        transactional,
        handleBatch([one], { fail }) {
          // As a promise does that the handler has not awaited.
          forgotten = () => fail(one!, new Error("mailbox full"));
        },
      }).drain();
      assert.equal(handled, 1);
      forgotten();
      const record = await said(
        "error",
        /^c: fail\(\) was called for notification \d+ after/,
        since,
      );
      assert.equal(record.properties.id, id);
      assert.match(sentence(record), /mailbox full$/);
    },
  );
}
