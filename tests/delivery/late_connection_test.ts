/** A transactional handler whose connection comes late: after its timeout, or when its run is over. */

import assert from "node:assert/strict";
import { connect, Consumer, type Database, notify, type Queryable } from "../../mod.ts";
import {
  type CutProxy,
  cutProxy,
  deferred,
  test,
  type TestContext,
  until,
} from "../harness/mod.ts";

/** A database on a line that can keep new connections silent. */
async function throughProxy({ url, use }: TestContext): Promise<[Database, CutProxy]> {
  const proxy = use(cutProxy(Number(new URL(url).port || 5432)));
  return [use(await connect(proxy.through(url))), proxy];
}

for (const ends of ["stop()", "close()"]) {
  test(`a transactional handler whose connection is late does not begin after ${ends}`, async (context) => {
    const [db, proxy] = await throughProxy(context);
    const begun: string[] = [];
    const options = { id: "c", channels: "c", transactional: true, stopTimeout: 50 };
    const consumer = new Consumer(db, { ...options, handle: () => void begun.push("late") });
    const running = consumer.run();
    await consumer.ready;
    proxy.hold();
    await notify(context.admin, "c", 1);
    await until(() => proxy.held === 1, { what: "the handler to open a connection" });
    await (ends === "stop()" ? consumer.stop() : db.close());
    await running;
    proxy.resume();
    const next = context.use(await connect(proxy.through(context.url)));
    await new Consumer(next, { ...options, handle: () => void begun.push("next") }).drain();
    assert.deepEqual(begun, ["next"]);
  });
}

test("a handler whose connection comes after its timeout does not begin, and its next attempt does", async (context) => {
  const [db, proxy] = await throughProxy(context);
  const timeout = 500;
  const begun: [attempt: number, aborted: boolean][] = [];
  const failed = deferred<unknown>("the first attempt to fail");
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    timeout,
    retry: { initial: 1 },
    onError: failed.resolve,
    handle: ({ attempt }, { signal }) => void begun.push([attempt, signal.aborted]),
  });
  const running = consumer.run();
  await consumer.ready;
  proxy.hold();
  await notify(context.admin, "c", 1);
  await until(() => proxy.held > 0, { what: "the handler to open a connection" });
  const opening = performance.now();
  await until(() => performance.now() > opening + timeout);
  proxy.resume();
  const reason = await failed.wait() as Error;
  await until(() => begun.length > 0 && begun.at(-1)![0] > 1, { what: "another attempt to begin" });
  await consumer.stop();
  await running;
  assert.equal(reason.name, "TimeoutError");
  assert.ok(begun.every(([attempt, aborted]) => attempt > 1 && !aborted), Deno.inspect(begun));
});

test("a transactional handler does not begin after stop() if its driver's pool is late", async (context) => {
  const db = context.use(await connect(context.url));
  const asked = deferred("the handler to ask for a transaction");
  const free = deferred("a connection of the pool");
  const over = deferred("the transaction to end");
  const driver = {
    query: (text: string, values?: unknown[]) => db.query(text, values),
    async transaction(work: (tx: Queryable) => Promise<unknown>) {
      asked.resolve();
      await free.wait();
      await db.transaction(work).finally(over.resolve);
    },
  };
  let begun = 0;
  const consumer = new Consumer(driver, {
    id: "c",
    channels: "c",
    transactional: true,
    stopTimeout: 50,
    handle: () => void begun++,
  });
  await notify(db, "c", 1);
  const running = consumer.run();
  await asked.wait();
  await consumer.stop();
  await running;
  free.resolve();
  await over.wait();
  assert.equal(begun, 0);
});
