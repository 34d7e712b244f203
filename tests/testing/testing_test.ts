/** The kit for tests of a user's own: the same test inside the process and on a server. */

import assert from "node:assert/strict";
import { PGlite } from "npm:@electric-sql/pglite@0.5.16";
import {
  channel,
  connect,
  Consumer,
  type ConsumerOptions,
  type HandlerContext,
  type Notification,
  notify,
  on,
  type Queryable,
  retry,
  schedule,
  schedules,
  type StandardSchema,
} from "../../mod.ts";
import {
  handlerContext,
  notification,
  publishAndDrain,
  type TestDatabase,
  testDatabase,
  type TestDatabaseOptions,
} from "../../src/testing/mod.ts";
import { control, serverUrl } from "../harness/control.ts";
import { deferred, patient, scratch, spawn, until } from "../harness/mod.ts";

/**
 * The server. To make a database there, and to drop it, waits for the disk and for all sessions of the server.
 * On a busy machine that may take longer than a query usually may.
 */
const server = new URL(serverUrl());
server.searchParams.set("query_timeout", String(patient(30_000)));

/** Declares a test for each place where a database of a test can be. */
function both(name: string, body: (db: TestDatabase) => Promise<void>): void {
  const places: [string, TestDatabaseOptions][] = [
    ["inside the process", { url: false, PGlite }],
    ["on a server", { url: server.href }],
  ];
  for (const [place, options] of places) {
    Deno.test(`${name}, ${place}`, async () => {
      await using db = await testDatabase(options);
      await body(db);
    });
  }
}

const silent = (options: ConsumerOptions): ConsumerOptions => ({ pollInterval: 10, ...options });

both("each test has a database of its own, with the schema and nothing else", async (db) => {
  const { rows: [row] } = await db.query("select count(*)::int as count from hark.log");
  assert.equal(row.count, 0);
  await notify(db, "c", 1);
  await db.exec("create table mine (id int); insert into mine values (1), (2)");
  await db.transaction(async (tx) => {
    await tx.query("delete from mine where id = $1", [1]);
    await notify(tx, "c", 2);
  });
  const { rows } = await db.query("select id from mine");
  assert.deepEqual(rows, [{ id: 2 }]);
});

both("publishAndDrain says what was handled, what failed and what was given up", async (db) => {
  const seen: unknown[] = [];
  const consumer = new Consumer(
    db,
    silent({
      id: "billing",
      channels: "orders",
      from: "now",
      maxAttempts: 2,
      retry: { initial: "5m" }, // not due within the call, however long that takes
      handle({ payload, key }) {
        seen.push([payload, key]);
        if (payload.total === undefined) throw new Error("no total");
      },
    }),
  );
  const first = await publishAndDrain(
    db,
    consumer,
    { payload: { total: 1 }, key: "a" },
    { payload: { id: 2 } },
  );
  assert.deepEqual([first.handled, first.dead], [1, []]);
  assert.deepEqual(first.failed.map(({ id, attempts, error }) => [id, attempts, error]), [
    [first.ids[1], 1, "no total"],
  ]);
  await db.advance("10m");
  const second = await publishAndDrain(db, consumer);
  assert.deepEqual([second.handled, second.ids, second.failed], [0, [], []]);
  assert.deepEqual(second.dead.map(({ id, attempts }) => [id, attempts]), [[first.ids[1], 2]]);
  assert.deepEqual(seen, [[{ total: 1 }, "a"], [{ id: 2 }, null], [{ id: 2 }, null]]);
});

both(
  "advance makes due what is delayed, scheduled or deduplicated, and nothing later",
  async (db) => {
    const seen: unknown[] = [];
    const consumer = new Consumer(
      db,
      silent({ id: "c", channels: "c", handle: ({ payload }) => void seen.push(payload) }),
    );
    await notify(db, "c", "in an hour", { delay: "1h" });
    await notify(db, "c", "in two", { delay: "2h" });
    await notify(db, "c", "once", { dedupe: { key: "k", within: "1h" } });
    await notify(db, "c", "once", { dedupe: { key: "k", within: "1h" } });
    const hour = (new Date().getUTCHours() + 12) % 24; // not within the first hours
    await schedule(db, "s", `0 ${hour} * * *`, { channel: "c", payload: "daily", missed: "skip" });
    assert.equal(await consumer.drain(), 1);
    await db.advance("30m"); // the test itself takes time, too
    assert.equal(await consumer.drain(), 0);
    await db.advance("30m");
    assert.equal(await consumer.drain(), 1);
    await notify(db, "c", "once more", { dedupe: { key: "k", within: "1h" } });
    assert.equal(await consumer.drain(), 1);
    await db.advance("1d");
    assert.equal(await consumer.drain(), 2);
    assert.deepEqual(seen.toSorted(), ["daily", "in an hour", "in two", "once", "once more"]);
    await assert.rejects(db.advance(-1), { code: "BAD_OPTION" });
  },
);

both("a schedule that advance reaches is for the time of its pattern, day by day", async (db) => {
  const seen: unknown[] = [];
  const report = new Consumer(db, {
    id: "report",
    channels: "reports",
    handle: ({ headers: { schedule, scheduledAt } }) => void seen.push([schedule, scheduledAt]),
  });
  const first = await schedule(db, "nightly", "0 3 * * *", { channel: "reports" });
  const day = (n: number) =>
    new Date(first.getTime() + n * 86_400_000).toISOString().replace(".000Z", "Z");
  assert.match(day(0), /T03:00:00Z$/);
  for (const n of [0, 1, 2]) {
    await db.advance("1d");
    assert.equal(await report.drain(), 1);
    assert.deepEqual(seen.splice(0), [["nightly", day(n)]]);
  }
  // One that a program stores now is not due for the days that have passed.
  await schedule(db, "late", "0 3 * * *", { channel: "reports" });
  await db.advance(1);
  assert.equal(await report.drain(), 0);
  await db.advance("1d");
  assert.equal(await report.drain(), 2);
  assert.deepEqual(seen.toSorted(), [["late", day(3)], ["nightly", day(3)]]);
  const [stored] = await schedules(db);
  assert.equal(stored!.nextAt!.toISOString().replace(".000Z", "Z"), day(4));
});

both("publishAndDrain tells the dead letters of its own call", async (db) => {
  const consumer = new Consumer(
    db,
    silent({
      id: "billing",
      channels: "orders",
      maxAttempts: 1,
      handle({ payload }) {
        if (payload !== "good") throw new Error(payload);
      },
    }),
  );
  const errors = async (...payloads: string[]) =>
    (await publishAndDrain(db, consumer, ...payloads.map((payload) => ({ payload })))).dead
      .map(({ error }) => error);
  assert.deepEqual(await errors("first"), ["first"]);
  assert.deepEqual(await errors("good"), []);
  assert.deepEqual(await errors("second", "good", "third"), ["second", "third"]);
  await retry(db, "billing", { error: "first" });
  assert.deepEqual(await errors("good"), ["first"]);
});

both("a consumer that runs looks at once when time is moved", async (db) => {
  const again = deferred();
  let attempts = 0;
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    retry: { initial: "1h", maximum: "1h" },
    handle() {
      if (++attempts === 2) again.resolve();
      else throw new Error("not yet");
    },
  });
  const run = consumer.run();
  await consumer.ready;
  await notify(db, "c");
  await until(async () =>
    (await db.query("select id from hark.waiting where state = 'failed'")).rows.length === 1
  );
  await db.advance("1h");
  await again.wait({ what: "the second attempt" });
  await consumer.stop();
  await run;
});

both("a transactional consumer works, and rolls back what it wrote", async (db) => {
  await db.exec("create table bills (id int primary key)");
  const consumer = new Consumer(
    db,
    silent({
      id: "c",
      channels: "c",
      transactional: true,
      async handle({ payload }, { tx }) {
        await tx.query("insert into bills values ($1)", [payload.id]);
        if (payload.fails) throw new Error("no");
      },
    }),
  );
  const { handled, failed } = await publishAndDrain(
    db,
    consumer,
    { payload: { id: 1 }, key: "a" },
    { payload: { id: 2, fails: true }, key: "b" },
  );
  assert.deepEqual([handled, failed.length], [1, 1]);
  assert.deepEqual((await db.query("select id from bills")).rows, [{ id: 1 }]);
});

/** Positive numbers. */
const positive: StandardSchema<number> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) =>
      typeof value === "number" && value > 0
        ? { value }
        : { issues: [{ message: "it is not positive" }] },
  },
};

both("publishAndDrain publishes on a typed channel as the channel does", async (db) => {
  const paid = channel("paid", positive).key((amount) => `k${amount}`);
  const keys: (string | null)[] = [];
  const consumers = [
    new Consumer(db, silent({ id: "a", handle: on(paid, (_, { key }) => void keys.push(key)) })),
    new Consumer(
      db,
      silent({ id: "b", channels: paid, from: "now", handle: ({ key }) => void keys.push(key) }),
    ),
  ];
  for (const consumer of consumers) {
    await publishAndDrain(db, consumer, { payload: 1 });
    await assert.rejects(publishAndDrain(db, consumer, { payload: -1 }), { code: "BAD_PAYLOAD" });
  }
  assert.deepEqual(keys, ["k1", "k1"]);
  // By its name as text: as SQL can publish.
  const { dead } = await publishAndDrain(db, consumers[0]!, { channel: "paid", payload: -1 });
  assert.match(dead[0]!.error!, /it is not positive/);
});

Deno.test("a handler is tested without a database", () => {
  const handle = ({ id, payload, key, headers, attempt, channel }: Notification) => [
    id,
    payload,
    key,
    headers,
    attempt,
    channel,
  ];
  const time = new Date(0);
  assert.deepEqual(handle(notification({ at: time, left: undefined })), [
    1,
    { at: "1970-01-01T00:00:00.000Z" },
    null,
    {},
    1,
    "test",
  ]);
  const facts = { id: 7, key: 5, headers: { by: "me" }, attempt: 3, channel: "orders" };
  assert.deepEqual(handle(notification([1], facts)), [7, [1], "5", { by: "me" }, 3, "orders"]);
  assert.equal(notification(1, { createdAt: time, isReplay: true }).createdAt.getTime(), 0);
  assert.throws(() => notification(new Map()), { code: "BAD_PAYLOAD" });
  assert.throws(() => notification(1, { chanel: "c" } as object), { code: "BAD_OPTION" });
});

Deno.test("a handler's context is made without a consumer, and notes what a batch reports", () => {
  const tx: Queryable = { query: () => Promise.resolve({ rows: [] }) };
  const context: HandlerContext = handlerContext({ tx, consumer: "billing" });
  assert.equal(context.tx, tx);
  assert.deepEqual([context.signal.aborted, context.worker.consumer], [false, "billing"]);
  assert.throws(() => handlerContext().tx, { code: "BAD_OPTION" });
  const batch = handlerContext();
  const [first, same, other] = [1, 2, 3].map((id) => notification(id, { id, key: id % 3 && "k" }));
  batch.fail(first!, new Error("no"));
  assert.deepEqual(batch.failed.map((one) => one.notification), [first]);
  assert.deepEqual([first!, same!, other!].map(batch.isBehindFailure), [false, true, false]);
});

Deno.test("what cannot be a test's database is refused, with a remedy", async () => {
  const wrong: [unknown, RegExp][] = [
    [{ url: 5 }, /^url is 5/],
    [{ url: "no url" }, /^url: the database URL is not a URL/],
    [{ url: false, PGlite: {} }, /^PGlite is/],
    [{ pglite: PGlite }, /no option "pglite"/],
  ];
  for (const [options, message] of wrong) {
    await assert.rejects(testDatabase(options as TestDatabaseOptions), {
      code: "BAD_OPTION",
      message,
    });
  }
  const single = { channels: ["a", "b"], id: "c", handle() {} };
  await using db = await testDatabase({ url: false, PGlite });
  await assert.rejects(publishAndDrain(db, new Consumer(db, single), { payload: 1 }), {
    code: "BAD_OPTION",
    message: /several channels/,
  });
});

Deno.test("a database on a server is dropped at the end", async () => {
  const db = await testDatabase({ url: server.href });
  const name = new URL(db.url!).pathname.slice(1);
  const there = async () =>
    (await control.sql("select 1 from pg_database where datname = $1", [name])).length;
  assert.equal(await there(), 1);
  await db[Symbol.asyncDispose]();
  assert.equal(await there(), 0);
});

Deno.test("a database on a server takes the URL that connect takes, with the host as a parameter", async () => {
  const { username, password, host, pathname, searchParams } = server;
  const [name, port = "5432"] = host.split(":");
  await using db = await testDatabase({
    url: `postgres://${username}:${password}@${pathname}?host=${name}&port=${port}&${searchParams}`,
  });
  await notify(db, "c", 1);
  await using same = await connect(db.url);
  assert.equal((await same.query("select from hark.log")).rows.length, 1);
});

Deno.test("a database inside the process starts from what an earlier run has kept, and without that", async () => {
  const version = `PGlite of ${crypto.randomUUID()}`; // other tests use the cache, too
  /** Each class is another one to the kit, as it is in the next run. */
  const nextRun = () => {
    const calls: unknown[] = [];
    const Class = {
      create(options?: { loadDataDir?: Blob }) {
        calls.push(options?.loadDataDir === undefined ? "anew" : "kept");
        return PGlite.create(options);
      },
      toString: () => version,
    };
    return { calls, Class };
  };
  const start = async () => {
    const { calls, Class } = nextRun();
    await using db = await testDatabase({ url: false, PGlite: Class });
    await using second = await testDatabase({ url: false, PGlite: Class });
    for (const one of [db, second]) {
      assert.equal((await one.query("select count(*)::int as n from hark.log")).rows[0].n, 0);
    }
    await notify(db, "c", 1);
    return calls;
  };
  const cache = await caches.open("hark-testing");
  const before = new Set((await cache.keys()).map(({ url }) => url));
  assert.deepEqual(await start(), ["anew", "kept"]);
  for (const { url } of await cache.keys()) {
    if (!before.has(url)) await cache.put(url, new Response("no data directory"));
  }
  assert.deepEqual(await start(), ["kept", "anew", "kept"]);
  assert.deepEqual(await start(), ["kept", "kept"]);
});

const userTest = `
import assert from "node:assert/strict";
import { Consumer } from "@hark/postgres";
import { publishAndDrain, testDatabase } from "@hark/postgres/testing";

Deno.test("each order is billed", async () => {
  await using db = await testDatabase();
  const billed = [];
  const billing = new Consumer(db, {
    id: "billing",
    channels: "orders",
    handle: ({ payload }) => void billed.push(payload.id),
  });
  await publishAndDrain(db, billing, { payload: { id: 42 } });
  assert.deepEqual(billed, [42]);
});
`;

Deno.test("one file of a user passes without a server, and on the server of DATABASE_URL", async () => {
  await using folder = await scratch();
  await Deno.writeTextFile(`${folder.path}/billing_test.js`, userTest);
  const run = async (DATABASE_URL: string, ...flags: string[]) => {
    const args = ["test", "--quiet", "--no-check", "--lock=.hark/deno.lock", "--no-prompt"];
    await using child = spawn(
      Deno.execPath(),
      [...args, "--config=deno.json", ...flags, `${folder.path}/billing_test.js`],
      { env: { DATABASE_URL } },
    );
    const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /1 passed/);
  };
  await run("", "--allow-read", "--ignore-env");
  await run(
    server.href,
    "--allow-read",
    "--allow-env=DATABASE_URL",
    "--ignore-env",
    "--allow-net=127.0.0.1",
  );
});
