/** When a consumer or a subscription is ready, and what is a replay from then on. */

import assert from "node:assert/strict";
import { connect, Consumer, notify, subscribe } from "../../mod.ts";
import { Inbox, test, until, within } from "../harness/mod.ts";

test("what is published once a consumer is ready is no replay, at the first run and after", async (c) => {
  const db = c.use(await connect(c.url));
  const heard = new Inbox<string>();
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    handle: ({ payload, isReplay }) => heard.push(`${payload} ${isReplay}`),
  });
  const first = consumer.ready;
  for (let run = 1; run <= 3; run++) {
    await notify(db, "c", `before ${run}`);
    const running = consumer.run();
    assert.equal(consumer.ready === first, run === 1);
    await consumer.ready;
    await notify(db, "c", `live ${run}`);
    await until(() => heard.items.length === 2 * run);
    await consumer.stop();
    await running;
  }
  assert.deepEqual(
    heard.items,
    [1, 2, 3].flatMap((run) => [`before ${run} true`, `live ${run} false`]),
  );
});

test("a worker that stands by is ready, and what it takes over later is no replay", async (c) => {
  const db = c.use(await connect(c.url));
  const heard = new Inbox<boolean>();
  const blocked = Promise.withResolvers<void>();
  const options = { id: "c", channels: "c", lease: 400 };
  const serving = new Consumer(db, {
    ...options,
    stopTimeout: 0,
    handle: () => blocked.promise,
  });
  const standing = new Consumer(db, {
    ...options,
    handle: ({ isReplay }) => heard.push(isReplay),
  });
  const runs = [serving.run()];
  await serving.ready;
  runs.push(standing.run());
  await within(standing.ready, { what: "the worker that stands by to be ready" });
  await notify(db, "c", 1);
  await serving.stop();
  await until(() => heard.items.length === 1);
  assert.deepEqual(heard.items, [false]);
  await standing.stop();
  blocked.resolve();
  await Promise.all(runs);
});

test("ready rejects if the run fails or is stopped before", { schema: false }, async (c) => {
  const db = c.use(await connect(c.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const ready = assert.rejects(consumer.ready, { code: "NO_SCHEMA" });
  await assert.rejects(consumer.run(), { code: "NO_SCHEMA" });
  await ready;
  const stopped = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const run = stopped.run({ signal: AbortSignal.abort() });
  await assert.rejects(run, { code: "NO_SCHEMA" });
  await assert.rejects(stopped.ready, { code: "NO_SCHEMA" });
  class Wrong extends Consumer {} // without a handler
  const wrong = new Wrong(db, { id: "c", channels: "c" });
  await assert.rejects(wrong.run(), { code: "BAD_OPTION" });
  await assert.rejects(wrong.ready, { code: "BAD_OPTION" });
});

test("a run that is stopped before it is ready rejects ready, and ends itself in order", async (c) => {
  const db = c.use(await connect(c.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const run = consumer.run({ signal: AbortSignal.abort() });
  await assert.rejects(consumer.ready, {
    code: "CONFLICT",
    message: /^consumer "c" was stopped before it was ready/,
  });
  await run;
  // A second run at the same time does not touch the first one's promise.
  const running = consumer.run();
  const { ready } = consumer;
  await assert.rejects(consumer.run(), { code: "CONFLICT" });
  await ready;
  await consumer.stop();
  await running;
});

test("a drain is ready too", async (c) => {
  const db = c.use(await connect(c.url));
  await notify(db, "c", 1);
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const drained = consumer.drain();
  await consumer.ready;
  assert.equal(await drained, 1);
});

test("a subscription misses nothing that is published from onReady on", async (c) => {
  const db = c.use(await connect(c.url));
  await notify(db, "c", "before");
  const isReady = Promise.withResolvers<void>();
  const heard = (async () => {
    for await (const { payload, isReplay } of subscribe(db, "c", { onReady: isReady.resolve })) {
      return [payload, isReplay];
    }
    return undefined;
  })();
  await isReady.promise;
  await notify(db, "c", "live");
  assert.deepEqual(await heard, ["live", false]);
});
