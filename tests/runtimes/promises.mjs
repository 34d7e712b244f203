/**
 * The core's promises, as a user's program on any runtime. With "crash" it ends itself in the middle of
 * handling; run again without, it goes on where that one was.
 */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  HarkError,
  migrate,
  notify,
  notifyMany,
  subscribe,
} from "@hark/postgres";
import { drain, wakeHandler, wakeUp } from "@hark/postgres/edge";
import { notify as publish } from "@hark/postgres/publish";

const crashes = process.argv.includes("crash");
const db = await connect(process.env.DATABASE_URL);
await migrate(db);

/** Fails if a promise is not kept within 20 s. */
async function kept(name, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited 20 s: ${name}`)), 20_000);
  });
  await Promise.race([promise(), late]);
  clearTimeout(timer);
  console.log(`ok ${name}`);
}

if (crashes) {
  await notifyMany(db, [1, 2, 3, 4].map((payload) => ({ channel: "crash", payload, key: "k" })));
  const consumer = new Consumer(db, {
    id: "crash",
    channels: "crash",
    acknowledgeInterval: 0,
    handle({ payload }) {
      console.log(`handled ${payload}`);
      if (payload === 3) process.kill(process.pid, "SIGKILL");
    },
  });
  await consumer.run();
}

await kept("after a crash it goes on where it was, and nothing is lost", async () => {
  const seen = [];
  const consumer = new Consumer(db, {
    id: "crash",
    channels: "crash",
    handle({ payload }) {
      if (seen.push(payload) && payload === 4) void consumer.stop();
    },
  });
  await consumer.run();
  assert.deepEqual(seen, [3, 4]);
});

await kept("what rolls back is not published, and wrong calls say why", async () => {
  await assert.rejects(
    db.transaction(async (tx) => {
      await notify(tx, "live", "rolled back");
      throw new Error("rolled back");
    }),
    /rolled back/,
  );
  const error = await notify(db, "").catch((error) => error);
  assert(error instanceof HarkError);
  assert.equal(error.code, "BAD_CHANNEL");
});

await kept("a consumer handles live what is committed, in order", async () => {
  const seen = [];
  const consumer = new Consumer(db, {
    id: "live",
    channels: "live",
    handle({ payload, isReplay }) {
      if (seen.push([payload, isReplay]) === 3) void consumer.stop();
    },
  });
  const running = consumer.run();
  await consumer.ready;
  await publish(db, "live", 1, { key: "k" });
  await db.transaction((tx) => notify(tx, "live", 2, { key: "k" }));
  await notify(db, "live", 3, { key: "k", delay: 50 });
  await running;
  assert.deepEqual(seen, [[1, false], [2, false], [3, false]]);
});

await kept("what fails is retried, then a dead letter", async () => {
  const attempts = [];
  const died = Promise.withResolvers();
  const retried = Promise.withResolvers();
  const consumer = new Consumer(db, {
    id: "retry",
    channels: "retry",
    retry: { initial: 20 },
    maxAttempts: 2,
    handle({ payload, attempt }) {
      attempts.push(`${payload}:${attempt}`);
      if (payload === "never" || attempt === 1) throw new Error("not yet");
      retried.resolve();
    },
    onDeadLetter: (_, { payload }) => died.resolve(payload),
  });
  const running = consumer.run();
  await notify(db, "retry", "later");
  await notify(db, "retry", "never");
  assert.equal(await died.promise, "never");
  await retried.promise;
  await consumer.stop();
  await running;
  assert.deepEqual(attempts.sort(), ["later:1", "later:2", "never:1", "never:2"]);
});

await kept("what a transactional handler writes happens exactly once", async () => {
  await db.query("create table if not exists payments (id integer)");
  await notifyMany(db, [1, 2, 3].map((payload) => ({ channel: "pay", payload })));
  let failed = false;
  const consumer = new Consumer(db, {
    id: "pay",
    channels: "pay",
    transactional: true,
    retry: { initial: 20 },
    async handle({ payload }, { tx }) {
      await tx.query("insert into payments values ($1)", [payload]);
      if (payload === 2 && !failed) {
        failed = true;
        throw new Error("after the write");
      }
    },
  });
  const { handled, reason } = await drain(consumer);
  assert.deepEqual([handled, reason, failed], [3, "done", true]);
  const { rows } = await db.query(
    "select array_to_json(array_agg(id order by id))::text as ids from payments",
  );
  assert.equal(rows[0].ids, "[1,2,3]");
});

await kept("a subscription reads from the beginning, then live", async () => {
  const seen = [];
  await notify(db, "read", 1);
  for await (const { payload } of subscribe(db, "read", { from: "beginning" })) {
    if (seen.push(payload) === 1) await notify(db, "read", 2);
    else break;
  }
  assert.deepEqual(seen, [1, 2]);
});

await kept("a sleeping consumer is woken by NOTIFY and by a signed request", async () => {
  const secret = `whsec_${btoa("a secret of at least 24 bytes")}`;
  let handled;
  const consumer = new Consumer(db, {
    id: "sleep",
    channels: "sleep",
    idle: "sleep",
    idleAfter: 100,
    handle: ({ payload }) => handled(payload),
  });
  const running = consumer.run();
  const handler = wakeHandler(consumer, { secret });
  const fetched = globalThis.fetch;
  globalThis.fetch = (url, init) => handler(new Request(url, init));
  for (const way of ["notify", "request"]) {
    for (let asleep = 0; asleep === 0;) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { rows } = await db.query("select count(*)::integer as asleep from hark.sleeping()");
      asleep = rows[0].asleep;
    }
    const done = new Promise((resolve) => handled = resolve);
    await notify(db, "sleep", way);
    if (way === "request") await wakeUp("http://localhost/wake", { secret });
    assert.equal(await done, way);
  }
  globalThis.fetch = fetched;
  await consumer.stop();
  await running;
});

await db.close();
