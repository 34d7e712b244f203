import assert from "node:assert/strict";
import { connect, Consumer, type Notification, notify } from "../../mod.ts";
import { Inbox, patient, test, until } from "../harness/mod.ts";
import { said } from "./_support/logs.ts";
import { NEVER_POLL, numbers, publish, Running } from "./_support/running.ts";

const quick = { initial: 5, maximum: 20 };

test("with block, a handler that throws is called again in place, with a rising attempt; order is kept", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 5);
  const seen: [number, number][] = [];
  const running = context.use(
    new Running(db, {
      retry: quick,
      onFailure: "block",
      handle: (n) => {
        seen.push([n.payload, n.attempt]);
        if (n.payload === 3 && n.attempt < 4) throw new Error("not yet");
      },
    }),
  );
  await running.atLeast(8);
  assert.deepEqual(seen, [[1, 1], [2, 1], [3, 1], [3, 2], [3, 3], [3, 4], [4, 1], [5, 1]]);
});

test("a rejected promise, a thrown string, undefined and null count as failures too", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2);
  const thrown: unknown[] = [Promise.reject(new Error("later")), "a string", undefined, null];
  (thrown[0] as Promise<never>).catch(() => {});
  const told: unknown[] = [];
  const running = context.use(
    new Running(db, {
      retry: quick,
      onError: (error) => void told.push(error),
      handle: (n) => {
        if (n.payload === 2 || n.attempt > thrown.length) return;
        const what = thrown[n.attempt - 1];
        if (what instanceof Promise) return what;
        throw what;
      },
    }),
  );
  await running.atLeast(6);
  assert.equal((told[0] as Error).message, "later");
  assert.deepEqual(told.slice(1), ["a string", undefined, null]);
  assert.equal(running.inbox.items.at(-1)!.attempt, 5);
});

test("onError is told of each failure, and status shows it while it lasts", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  const told = new Inbox<{ error: unknown; notification: Notification }>();
  let broken = true;
  const running = context.use(
    new Running(db, {
      retry: quick,
      onError: (error, notification) => told.push({ error, notification }),
      handle: (n) => {
        if (broken && n.payload.order === 7) throw new Error("the shop is closed");
      },
    }),
  );
  const id = await notify(db, "c", { order: 7 });
  await notify(db, "c", { order: 8 });
  await told.atLeast(3);
  assert.deepEqual(told.items.slice(0, 3).map((x) => x.notification.attempt), [1, 2, 3]);
  assert.deepEqual(told.items[0]!.notification.payload, { order: 7 });
  assert.match(String(told.items[0]!.error), /the shop is closed/);
  const record = await said(
    "error",
    /notification \d+ failed at attempt 1, next attempt in \d+ ms/,
    since,
  );
  assert.equal(record.properties.id, id);
  const status = async () =>
    (await context.sql(
      "select unread::int, waiting::int, failing_id::int, attempts, last_error, failed_at from hark.status()",
    ))[0];
  const failing = await until(async () => {
    const row = await status();
    return row.attempts >= 3 ? row : undefined;
  });
  assert.equal(failing.failing_id, id);
  assert.equal(failing.last_error, "the shop is closed");
  assert(failing.failed_at instanceof Date);
  broken = false;
  await until(async () => {
    const { unread, waiting } = await status();
    return unread === 0 && waiting === 0;
  });
  const healed = await status();
  assert.equal(healed.failing_id, null);
  assert.deepEqual(running.inbox.items.at(-1)!.payload, { order: 7 });
});

test("the count of attempts outlives a restart of the worker", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const first = new Running(db, {
    retry: quick,
    onFailure: "block",
    handle: (n) => {
      if (n.payload === 2) throw new Error("broken");
    },
  });
  await first.atLeast(4);
  await first.stop();
  const reached = first.inbox.items.at(-1)!.attempt;
  assert(reached >= 3);
  const second = context.use(new Running(db, { onFailure: "block" }));
  await second.atLeast(2);
  assert.deepEqual(second.payloads, [2, 3], "1 was stored before the failures");
  assert.equal(second.inbox.items[0]!.attempt, reached + 1);
  assert.equal(second.inbox.items[1]!.attempt, 1);
});

test("what was handled before a failure is stored, not repeated with it", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 50);
  const first = new Running(db, {
    // The first worker has stopped before the next attempt is due.
    retry: { initial: patient(1000), maximum: patient(1000) },
    onFailure: "block",
    acknowledgeCount: 1_000_000,
    acknowledgeInterval: 3_600_000,
    handle: (n) => {
      if (n.payload === 40) throw new Error("broken");
    },
  });
  await first.atLeast(40);
  await until(async () =>
    (await context.sql("select attempts from hark.waiting"))[0]?.attempts === 1
  );
  assert.equal(
    Number((await context.sql("select handled from hark.partitions"))[0].handled),
    39,
  );
  await first.stop();
  const second = context.use(new Running(db, { onFailure: "block" }));
  await second.atLeast(11);
  assert.deepEqual(second.payloads, numbers(40, 50));
  assert.equal(second.inbox.items[0]!.attempt, 2);
});

test("one consumer's failing costs another nothing", async (context) => {
  const db = context.use(await connect(context.url));
  const bad = context.use(
    new Running(db, {
      id: "bad",
      onFailure: "block",
      retry: { initial: 0, maximum: 1 },
      handle: () => {
        throw new Error("always");
      },
    }),
  );
  await publish(context, 1, 1);
  await bad.atLeast(5);
  const good = context.use(new Running(db, { id: "good", pollInterval: NEVER_POLL }));
  await publish(context, 2, 300);
  await good.atLeast(300);
  assert.deepEqual(good.payloads, numbers(1, 300));
  assert(bad.payloads.every((n) => n === 1), "and nothing overtakes what fails");
});

test("an onError that throws harms nothing but the log", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2);
  const running = context.use(
    new Running(db, {
      retry: quick,
      onError: () => Promise.reject(new Error("the pager is out")),
      handle: (n) => {
        if (n.payload === 1 && n.attempt < 3) throw new Error("x");
      },
    }),
  );
  await running.atLeast(4);
  await said("error", /c: the hook onError failed: the pager is out/, since);
});

test("an error whose message no database can store is stored all the same", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  const running = context.use(
    new Running(db, {
      retry: quick,
      handle: (n) => {
        if (n.attempt === 1) throw new Error(`\0 \ud800 ${"x".repeat(50_000)}`);
        if (n.attempt === 2) throw new Error("");
      },
    }),
  );
  await running.atLeast(3);
});

test("a handler that publishes is followed at once, hop by hop", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(
    new Running(db, {
      pollInterval: NEVER_POLL,
      handle: async (n) => {
        if (n.payload < 100) await notify(db, "c", n.payload + 1);
      },
    }),
  );
  await notify(db, "c", 1);
  await running.atLeast(100, { deadline: 20_000 });
  assert.deepEqual(running.payloads, numbers(1, 100));
});

test("a program error of the handler's author is not hidden: run() goes on, drain() too", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  let failures = 0;
  const handled = await new Consumer<number>(db, {
    id: "d",
    channels: "c",
    retry: quick,
    onError: () => void failures++,
    handle: (n) => {
      if (n.attempt === 1) (undefined as unknown as { x(): void }).x();
    },
  }).drain();
  assert.equal(handled, 3);
  assert.equal(failures, 3);
});
