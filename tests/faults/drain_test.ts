import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  notify,
  notifyMany,
  type Queryable,
} from "../../mod.ts";
import { test, within } from "../harness/mod.ts";
import { killBackends, numbers, publish, readerBackends, Running } from "./_support/running.ts";

/** Drains, and gives what drain() returned and what it handled. */
async function drain(db: Queryable, options: ConsumerOptions = {}): Promise<[number, unknown[]]> {
  const seen: unknown[] = [];
  const consumer = new Consumer(db, {
    id: "d",
    channels: "c",
    ...options,
    handle: (n, context) => {
      seen.push(n.payload);
      return options.handle?.(n, context);
    },
  });
  return [await within(consumer.drain(), { deadline: 30_000, what: "drain() to end" }), seen];
}

test("drain() returns the exact count, 0 on nothing, and goes on where it ended", async (context) => {
  const db = context.use(await connect(context.url));
  assert.deepEqual(await drain(db), [0, []]);
  await publish(context, 1, 7);
  assert.deepEqual(await drain(db), [7, numbers(1, 7)]);
  assert.deepEqual(await drain(db), [0, []]);
  await publish(context, 1, 3, "another channel");
  assert.deepEqual(await drain(db), [0, []]);
  await publish(context, 8, 9);
  assert.deepEqual(await drain(db), [2, [8, 9]]);
});

test("drain() counts exactly whatever the size of a page and the rhythm of acknowledging", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, numbers(1, 1000).map((payload) => ({ channel: "c", payload })));
  const ways: ConsumerOptions[] = [
    { pageSize: 1, acknowledgeCount: 1 },
    { pageSize: 7, acknowledgeCount: 3, acknowledgeInterval: 0 },
    { pageSize: 999 },
    { pageSize: 1000, acknowledgeCount: 1000 },
    { pageSize: 1001 },
    { pageBytes: 1 },
    {},
  ];
  for (const [at, way] of ways.entries()) {
    assert.deepEqual(await drain(db, { id: `d${at}`, ...way }), [1000, numbers(1, 1000)]);
    assert.deepEqual(await drain(db, { id: `d${at}`, ...way }), [0, []]);
  }
});

test("drain() ends although publishing goes on", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 50);
  const handle = async (n: { payload: number }) => void await notify(db, "c", n.payload + 1000);
  const [count, seen] = await drain(db, { handle });
  assert.equal(count, seen.length);
  assert.deepEqual(seen.slice(0, 50), numbers(1, 50));
  assert(count < 200, `it handled ${count}`);
});

test("drain() works on pg.Client, pg.Pool, Database and a wrapped driver", async (context) => {
  const db = context.use(await connect(context.url));
  const client = await context.client();
  const pool = new pg.Pool({ connectionString: context.url, max: 3 });
  const wrapped: Queryable = {
    query: async (text, values) => ({ rows: (await client.query(text, values)).rows }),
  };
  try {
    for (const [at, on] of [client, pool, db, wrapped, client].entries()) {
      await publish(context, at * 10, at * 10 + 3);
      assert.deepEqual(await drain(on), [4, numbers(at * 10, at * 10 + 3)]);
    }
    for (const on of [pool, client]) assert.deepEqual(await drain(on), [0, []]);
  } finally {
    await pool.end();
  }
});

test("drain() in a transaction that has written is refused, and says why", async (context) => {
  await publish(context, 1, 2);
  const client = await context.client();
  await client.query("begin");
  await client.query("create table t (n int)");
  await assert.rejects(drain(client), { code: "IN_TRANSACTION", remedy: /outside/ });
  await client.query("rollback");
  await client.query("begin isolation level repeatable read");
  await assert.rejects(drain(client), { code: "IN_TRANSACTION", message: /REPEATABLE READ/ });
  await client.query("rollback");
  await client.query("begin");
  await assert.rejects(
    drain(client),
    { code: "IN_TRANSACTION" },
    "its own registration has written",
  );
  await client.query("rollback");
  assert.deepEqual(await drain(client), [2, [1, 2]]);
});

test("drain() reports a lost connection, and nothing is lost by it", async (context) => {
  const client = await context.client();
  await publish(context, 1, 20);
  const { rows: [{ pid }] } = await client.query("select pg_backend_pid() as pid");
  const handle = async (n: { payload: number }) => {
    if (n.payload === 10) await context.sql("select pg_terminate_backend($1, 5000)", [pid]);
  };
  await assert.rejects(drain(client, { handle, lease: 500 }), { code: "UNREACHABLE" });
  const again = await context.client();
  const [count, seen] = await drain(again);
  assert(count >= 10, `at least those not handled: ${count}`);
  assert.equal(seen.at(-1), 20);
});

test("drain() on a Database goes on if a connection is lost that it was not using", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const handle = async (n: { payload: number }) => {
    if (n.payload === 10) await killBackends(context, readerBackends);
  };
  const drained = await drain(db, { handle, acknowledgeInterval: 10_000 });
  assert.deepEqual(drained, [20, numbers(1, 20)]);
});

test("run() on a pg.Client that has ended says so; on a pg.Pool it goes on", async (context) => {
  const client = await context.client();
  const pool = new pg.Pool({ connectionString: context.url, max: 1 });
  pool.on("error", () => {});
  try {
    const onClient = new Running(client, { id: "client", pollInterval: 20 });
    const onPool = new Running(pool, { id: "pool", pollInterval: 20 });
    await publish(context, 1, 1);
    await Promise.all([onClient.atLeast(1), onPool.atLeast(1)]);
    await context.sql(
      "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1",
      [context.appName],
    );
    await publish(context, 2, 2);
    await onPool.atLeast(2);
    await onPool.stop();
    await assert.rejects(within(onClient.done), { code: "UNREACHABLE" });
  } finally {
    await pool.end();
  }
});

test("drain({ signal }) stops and counts what it has done", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 10);
  const abort = new AbortController();
  const consumer = new Consumer<number>(db, {
    id: "d",
    channels: "c",
    handle: (n) => {
      if (n.payload === 4) abort.abort();
    },
  });
  assert.equal(await consumer.drain({ signal: abort.signal }), 4);
  assert.deepEqual(await drain(db), [6, numbers(5, 10)]);
});
