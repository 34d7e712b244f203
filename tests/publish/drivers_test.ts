import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import postgres from "npm:postgres@3.4.9";
import { connect, notify, notifyMany, type Queryable } from "../../mod.ts";
import { numbers, publish, Running } from "../faults/_support/running.ts";
import { both, drained } from "./_support/any_driver.ts";
import { patient, test } from "../harness/mod.ts";

test("Database and Database.transaction: published on commit, not on an error", async (context) => {
  const db = context.use(await connect(context.url));
  await both(db, 1);
  const result = await db.transaction(async (tx) => {
    await tx.query("create table orders (id int)");
    await both(tx, 4);
    return "done";
  });
  assert.equal(result, "done");
  const own = new Error("changed my mind");
  await assert.rejects(
    db.transaction(async (tx) => {
      await both(tx, 100);
      throw own;
    }),
    (error) => error === own,
  );
  await assert.rejects(
    db.transaction(async (tx) => {
      await both(tx, 200);
      await tx.query("select 1 / 0");
    }),
    { code: "DATABASE", sqlState: "22012", message: /division by zero/ },
  );
  assert.deepEqual(await drained(db), numbers(1, 6));
});

test("Database.transaction works as often as one likes, and in parallel beyond the pool", async (context) => {
  // The last ones wait for their turn of 25.
  const connectTimeout = patient(10_000);
  const db = context.use(await connect(context.url, { poolSize: 2, connectTimeout }));
  const ended = await Promise.allSettled(
    numbers(1, 50).map((n) =>
      db.transaction(async (tx) => {
        await notify(tx, "c", n);
        if (n % 5 === 0) throw new Error("no");
      })
    ),
  );
  for (const one of ended) if (one.status === "rejected") assert.equal(one.reason.message, "no");
  const seen = await drained(db) as number[];
  assert.deepEqual(seen.toSorted((a, b) => a - b), numbers(1, 50).filter((n) => n % 5 !== 0));
});

test("a pg.Client in a transaction of its own: commit publishes, rollback does not", async (context) => {
  const client = await context.client();
  await client.query("begin");
  await both(client, 1);
  await client.query("commit");
  await client.query("begin");
  await both(client, 10);
  await client.query("rollback");
  await client.query("begin");
  await both(client, 4);
  await client.query("savepoint s");
  await both(client, 20);
  await client.query("rollback to s");
  await client.query("commit");
  assert.deepEqual(await drained(client), numbers(1, 6));
});

test("a transaction of any isolation level publishes", async (context) => {
  const client = await context.client();
  for (const [n, level] of ["read committed", "repeatable read", "serializable"].entries()) {
    await client.query(`begin isolation level ${level}`);
    await both(client, n * 3);
    await client.query("commit");
  }
  assert.deepEqual(await drained(client), numbers(0, 8));
});

test("a pg.Pool publishes", async (context) => {
  const pool = new pg.Pool({ connectionString: context.url, max: 3 });
  try {
    await both(pool, 1);
    assert.deepEqual(await drained(pool), [1, 2, 3]);
  } finally {
    await pool.end();
  }
});

test("postgres.js, wrapped in a line, publishes inside sql.begin", async (context) => {
  const sql = postgres(context.url, { max: 2, connection: { application_name: context.appName } });
  try {
    const wrap = (on: { unsafe: typeof sql.unsafe }): Queryable => ({
      query: async (text, values = []) => ({ rows: await on.unsafe(text, values as never[]) }),
    });
    await both(wrap(sql), 1);
    await sql.begin(async (tx) => {
      await tx`create table t (n int)`;
      await both(wrap(tx), 4);
    });
    await assert.rejects(sql.begin(async (tx) => {
      await both(wrap(tx), 100);
      throw new Error("no");
    }));
    const id = await notify(wrap(sql), "c", { quote: "'\"\\", n: null }, {
      key: "k'é",
      headers: { a: [1] },
    });
    assert(Number.isSafeInteger(id));
    assert.deepEqual(await drained(wrap(sql)), [...numbers(1, 6), { quote: "'\"\\", n: null }]);
    const [row] = await context.sql("select key, headers from hark.log order by id desc limit 1");
    assert.deepEqual(row, { key: "k'é", headers: { a: [1] } });
  } finally {
    await sql.end();
  }
});

test("plain SQL publishes: hark.notify, hark.smart_notify, hark.notify_many", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: 600_000 }));
  const statements = [
    `select hark.notify('c', '{"n": 1}')`,
    `select hark.notify('c')`,
    `select hark.notify('c', '[3]', 'key', '{"h": 1}')`,
    `select hark.notify(channel => 'c', key => 'k')`,
    `select hark.notify('c', null)`,
    `select hark.smart_notify('c', '{"n": 6}')`,
    `select hark.smart_notify('c')`,
    `select hark.smart_notify(channel_name => 'c', payload_data => '8')`,
    `select hark.notify_many('[{"channel": "c", "payload": 9}, {"channel": "c"}, {"channel": "c", "payload": null}]')`,
  ];
  for (const statement of statements) {
    const rows = await context.sql(statement);
    assert(rows.every((row) => Number(Object.values(row)[0]) > 0), statement);
  }
  await running.atLeast(11);
  assert.deepEqual(running.payloads, [
    { n: 1 },
    {},
    [3],
    {},
    null,
    { n: 6 },
    {},
    8,
    9,
    null,
    null,
  ]);
  const third = running.inbox.items[2]!;
  assert.deepEqual([third.key, third.headers], ["key", { h: 1 }]);
});

test("10,000 in one statement: ids in order, all or none", async (context) => {
  const db = context.use(await connect(context.url));
  const many = numbers(1, 10_000).map((n) => ({
    channel: n % 2 === 0 ? "c" : "odd",
    payload: n,
    key: n % 3 === 0 ? `k${n}` : null,
    ...(n % 7 === 0 ? { headers: { n } } : {}),
  }));
  const ids = await notifyMany(db, many);
  assert.equal(ids.length, 10_000);
  assert.deepEqual(ids, ids.toSorted((a, b) => a - b));
  assert.equal(new Set(ids).size, 10_000);
  const rows = await context.sql(
    "select id::int, channel, payload, key, headers from hark.log order by id",
  );
  assert.deepEqual(
    rows,
    many.map((m, at) => ({ id: ids[at], headers: null, ...m })),
  );
  assert.deepEqual(await notifyMany(db, []), []);
  await assert.rejects(notifyMany(db, [...many.slice(0, 50), { channel: "" }]), {
    code: "BAD_CHANNEL",
  });
  const [{ count }] = await context.sql("select count(*)::int from hark.log");
  assert.equal(count, 10_000);
});

test("publishing needs no place on the search path, and trusts none", async (context) => {
  const client = await context.client();
  await client.query("create schema evil");
  await client.query("create table evil.log (id int)");
  await client.query(
    "create function evil.notify(text, jsonb) returns int language sql as 'select 1/0'",
  );
  for (const path of ["evil", "evil, pg_catalog", "hark", "''"]) {
    await client.query(`set search_path = ${path}`);
    await both(client, 1);
  }
  await client.query("reset search_path");
  assert.equal((await drained(client)).length, 12);
  await publish(context, 1, 1);
});
