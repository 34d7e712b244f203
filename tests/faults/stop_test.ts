import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer, type Database, type Queryable, subscribe } from "../../mod.ts";
import { monitor } from "../../src/metrics/mod.ts";
import { cutProxy, deferred, patient, test, until, within } from "../harness/mod.ts";
import { logged, said, sentence } from "./_support/logs.ts";
import { Gate, NEVER_POLL, numbers, publish, Running } from "./_support/running.ts";

const rest = (db: Database) => new Consumer(db, { id: "c", channels: "c", handle() {} }).drain();

test("stop() lets the handler in hand finish, stores it, and begins no other", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const gate = new Gate(8);
  const running = new Running(db, {
    acknowledgeCount: 1_000_000,
    acknowledgeInterval: 3_600_000,
    handle: gate.handle,
  });
  const since = Date.now();
  const { signal } = await gate.reached();
  const stopped = running.stop();
  await assert.rejects(within(stopped, { deadline: 200 }), /waited/, "it waits");
  await said("info", /^c: waiting for 1 handler \(c #8\)$/, since);
  assert.equal(signal.aborted, false);
  gate.open();
  await within(stopped);
  assert.deepEqual(running.payloads, numbers(1, 8));
  assert.equal(await rest(db), 12);
});

test("after stop() nothing is repeated, wherever it fell", async (context) => {
  const db = context.use(await connect(context.url));
  const total = 400;
  await publish(context, 1, total);
  const handled: unknown[] = [];
  for (let at = 37; handled.length < total; at += 37) {
    const running: Running = new Running(db, {
      pageSize: 50,
      acknowledgeCount: 11,
      handle: (n) => {
        handled.push(n.payload);
        if (handled.length === Math.min(at, total)) void running.consumer.stop();
      },
    });
    await running.done;
  }
  assert.deepEqual(handled, numbers(1, total));
});

test("stop() does not wait for ever for a handler that ignores its signal", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const gate = new Gate(2);
  const running = new Running(db, { stopTimeout: 300, handle: gate.handle });
  const { signal } = await gate.reached();
  const begun = performance.now();
  await running.stop();
  assert(performance.now() - begun < patient(5000));
  assert.equal(signal.aborted, true);
  await said("warning", /still runs 300 ms after the stop/, since);
  gate.open();
  assert.equal(await rest(db), 2, "1 was stored, 2 was not");
});

test("a handler that heeds its signal ends a long stop", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  const begun = deferred("the handler");
  const running = new Running(db, {
    stopTimeout: 100,
    handle: (_n, { signal }) => {
      begun.resolve();
      const { promise, reject } = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => reject(signal.reason));
      return promise;
    },
  });
  await begun.wait();
  await running.stop();
  assert.equal(await rest(db), 1);
  assert.deepEqual(
    await context.sql("select * from hark.waiting"),
    [],
    "being stopped is no failure",
  );
});

test("run({ signal }) stops as stop() does", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 4);
  const abort = new AbortController();
  const seen: unknown[] = [];
  const consumer = new Consumer<number>(db, {
    id: "c",
    channels: "c",
    handle: (n) => {
      seen.push(n.payload);
      if (n.payload === 3) abort.abort();
    },
  });
  await consumer.run({ signal: abort.signal });
  assert.deepEqual(seen, [1, 2, 3]);
  await consumer.run({ signal: AbortSignal.abort() });
  assert.deepEqual(seen, [1, 2, 3]);
  assert.equal(await rest(db), 1);
});

test("stop() while it waits for work, for a retry, or for its turn returns at once", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  const idle = new Running(db, { pollInterval: NEVER_POLL });
  await until(async () => (await context.sql("select owner from hark.partitions"))[0]?.owner);
  const second = new Running(db, { pollInterval: NEVER_POLL });
  await said("info", /standing by/, since);
  await within(second.stop(), { deadline: 5000 });
  await within(idle.stop(), { deadline: 5000 });
  await publish(context, 1, 1);
  const retrying = new Running(db, {
    retry: { initial: 600_000, maximum: 600_000 },
    handle: () => {
      throw new Error("x");
    },
  });
  await retrying.atLeast(1);
  await said("error", /failed at attempt 1/, since);
  await within(retrying.stop(), { deadline: 5000 });
  const [row] = await context.sql("select state, attempts from hark.waiting");
  assert.deepEqual(row, { state: "failed", attempts: 1 });
});

/** Waits until consumer c has heard that what it handled is stored: the server knows that earlier. */
async function heardOfStoring(ask: ReturnType<typeof monitor>): Promise<void> {
  await until(async () => {
    const text = await (await ask(new Request("http://localhost/metrics"))).text();
    return text.split("\n").some((line) =>
      line.startsWith("messaging_client_operation_duration_seconds_count") &&
      line.includes('"acknowledge"') && line.includes('group_name="c"')
    );
  }, { what: "an acknowledgement" });
}

test("stop() while the server is away returns at once where all is stored", async (context) => {
  const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const db = context.use(await connect(line.through(context.url)));
  using ask = monitor();
  const running = new Running(db, { pollInterval: 50 });
  await publish(context, 1, 1);
  await running.atLeast(1);
  await heardOfStoring(ask);
  const since = Date.now();
  line.refuse();
  await said("warning", /interrupted/, since);
  await within(running.stop(), { deadline: 5000 });
  await within(db.close(), { deadline: 5000 });
});

test("stop() while the server is away says what it could not store", async (context) => {
  const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const db = context.use(await connect(line.through(context.url)));
  const gate = new Gate(1);
  const running = new Running(db, { handle: gate.handle });
  await publish(context, 1, 1);
  await gate.reached();
  line.refuse();
  const stopped = running.consumer.stop();
  gate.open();
  await within(stopped, { deadline: 15_000 });
  await assert.rejects(running.done, { code: "UNREACHABLE", message: /could not store that 1 / });
  await within(db.close(), { deadline: 5000 });
});

test("stop() while the server is away waits for the handler in hand, and stores what it handled", async (context) => {
  const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const db = context.use(await connect(line.through(context.url)));
  const gate = new Gate(1);
  const running = new Running(db, { handle: gate.handle });
  await publish(context, 1, 1);
  await gate.reached();
  line.refuse();
  await said("warning", /interrupted/, Date.now());
  const stopped = running.consumer.stop();
  await said("warning", /interrupted/, Date.now());
  assert(!running.over, "the handler still runs");
  line.resume();
  gate.open();
  await within(stopped, { deadline: 15_000 });
  await running.done;
  const [row] = await context.sql("select handled, owner from hark.partitions");
  assert.deepEqual([Number(row.handled), row.owner], [1, null]);
});

test("stop() while the server is away asks now and then, also when a handler's time is over", async (context) => {
  const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const pool = new pg.Pool({ connectionString: line.through(context.url), max: 2 });
  pool.on("error", () => {});
  let asked = 0;
  const driver: Queryable = {
    query(text, values) {
      asked++;
      return pool.query(text, values);
    },
  };
  const gate = new Gate(2);
  const running = new Running(driver, {
    concurrency: 2,
    stopTimeout: 100,
    acknowledgeInterval: 3_600_000,
    handle: gate.handle,
  });
  await publish(context, 1, 2);
  await gate.reached();
  line.refuse();
  const before = asked;
  void running.consumer.stop();
  await assert.rejects(within(running.done, { deadline: 15_000 }), /could not store that 1 /);
  assert(asked - before < 100, `it asked ${asked - before} times`);
  gate.open();
  await pool.end();
});

test("a worker that could not leave when it stopped holds no partition, though its process lives on", async (context) => {
  const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const db = context.use(await connect(line.through(context.url)));
  using ask = monitor();
  // It renews the lease that both share.
  await using other = new Running(db, { id: "other" });
  const first = new Running(db, {});
  await publish(context, 1, 1);
  for (const one of [first, other]) await one.atLeast(1);
  await heardOfStoring(ask);
  const since = Date.now();
  line.refuse();
  await said("warning", /^c was interrupted/, since);
  await first.stop();
  line.resume();
  await using second = new Running(db, {});
  await publish(context, 2, 2);
  await second.atLeast(1);
  assert.deepEqual(second.payloads, [2]);
});

test("stop() after the worker's session was killed in a handler stores what it handled all the same", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = new Gate(2);
  const running = new Running(db, { handle: gate.handle });
  await publish(context, 1, 2);
  await gate.reached();
  await context.sql(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`,
  );
  const stopped = running.consumer.stop();
  gate.open();
  await within(stopped, { deadline: 15_000 });
  await running.done;
  const [row] = await context.sql("select handled, owner from hark.partitions");
  assert.deepEqual([Number(row.handled), row.owner], [2, null]);
  const again = new Consumer(db, { id: "c", channels: "c", handle() {} });
  assert.equal(await again.drain(), 0);
});

test("stop() of what does not run does nothing; a second run() of one object is refused", async (context) => {
  const db = context.use(await connect(context.url));
  const running = new Running(db, {});
  await assert.rejects(running.consumer.run(), { code: "CONFLICT", remedy: /another Consumer/ });
  await running.stop();
  await running.consumer.stop();
  const again = running.consumer.run();
  await publish(context, 1, 1);
  await running.inbox.atLeast(1);
  await Promise.all([running.consumer.stop(), running.consumer.stop()]);
  await again;
});

test("stop() goes on saying what it waits for, and for how long at most", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  await publish(context, 1, 5);
  const gate = deferred("the handlers' end");
  const running = new Running(db, { concurrency: 5, handle: () => gate.wait() });
  await running.atLeast(5);
  const stopped = running.stop();
  await said("info", /^c: waiting for 5 handlers \(c #1, c #2, c #3, 2 more\)$/, since);
  const { properties } = await said("warning", /^c: still waiting for 5 handlers \(c #1/, since);
  assert((properties.left as number) < 30_000);
  gate.resolve();
  await within(stopped);
});

test("the end of a database's scope says what still ran in it; close() does not", async (context) => {
  const since = Date.now();
  const options = { id: "c", channels: "c", handle() {} };
  let done: Promise<void>;
  {
    await using db = await connect(context.url);
    done = new Consumer(db, options).run();
    await until(async () => (await context.sql("select from hark.workers")).length === 1);
  }
  await done;
  await said("warning", /ended while consumer "c" still ran.* Await run\(\)/, since);

  const later = Date.now();
  const db = await connect(context.url);
  const running = new Running(db, { id: "d" });
  await until(async () => (await context.sql("select from hark.workers")).length === 1);
  await db.close();
  await running.done;
  assert(!logged.items.some((one) => one.timestamp >= later && /still ran/.test(sentence(one))));
});

test("db.close() ends its consumers in order and leaves no session", async (context) => {
  const db = await connect(context.url);
  await publish(context, 1, 5);
  const gate = new Gate(3);
  const busy = new Running(db, { handle: gate.handle });
  const idle = new Running(db, { id: "idle" });
  await gate.reached();
  await idle.atLeast(5);
  const closed = db.close();
  gate.open();
  await within(closed);
  assert.equal(busy.over && idle.over, true);
  await busy.done;
  await idle.done;
  const sessions = () =>
    context.sql("select query from pg_stat_activity where application_name = $1", [
      context.appName,
    ]);
  await until(async () => (await sessions()).length === 0, { deadline: 3000 });
  await assert.rejects(db.query("select 1"));
  await assert.rejects(busy.consumer.run(), { code: "UNREACHABLE", message: /has been closed/ });
  const fresh = context.use(await connect(context.url));
  assert.equal(await rest(fresh), 5 - busy.payloads.length);
});

test("one Database after another leaves nothing behind", async (context) => {
  await publish(context, 1, 1);
  for (let round = 0; round < 8; round++) {
    await using db = await connect(context.url);
    const running = new Running(db, { id: `c${round}` });
    await running.atLeast(1);
  }
  await until(
    async () =>
      (await context.sql("select 1 from pg_stat_activity where application_name = $1", [
        context.appName,
      ])).length === 0,
    { deadline: 3000 },
  );
});

test("db.close() ends a subscription also while its loop is busy elsewhere", async (context) => {
  const db = await connect(context.url);
  await publish(context, 1, 2);
  const reading = subscribe(db, "c", { from: "beginning" });
  assert.equal((await reading.next()).value?.payload, 1);
  await within(db.close(), { deadline: 10_000 });
  await until(
    async () =>
      (await context.sql(
        "select query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
      )).length === 0,
    { deadline: 3000 },
  );
  assert.equal((await reading.next()).done, true);
});
