/** Statements that are run again and again are kept prepared, where that can be. */

import assert from "node:assert/strict";
import { connect, Consumer, Database, notify } from "../../mod.ts";
import { queryPrepared } from "../../src/database/prepared.ts";
import { Session } from "../../src/database/session.ts";
import { test } from "../harness/mod.ts";

const options = (url: string) => ({
  url,
  connectTimeout: 5000,
  queryTimeout: 5000,
  applicationName: "test",
});

const prepared = "select count(*)::integer as count from pg_prepared_statements";

test("a statement that the connection behind a pooler does not know is run all the same", async ({ url }) => {
  const session = await Session.open(options(url));
  try {
    const again = async (n: number) =>
      (await queryPrepared(session, "select $1::integer as n", [n])).rows[0].n;
    assert.equal(await again(1), 1);
    assert.equal(await again(2), 2);
    assert.equal((await session.query(prepared)).rows[0].count, 1);
    await session.query("deallocate all");
    assert.equal(await again(3), 3);
    assert.equal(await again(4), 4);
    assert.equal((await session.query(prepared)).rows[0].count, 0, "it prepares no more");
  } finally {
    await session.close();
  }
});

test("a statement that another has prepared on the same server connection is run all the same", async ({ url }) => {
  const session = await Session.open(options(url));
  const other = await Session.open(options(url));
  try {
    const text = "select $1::integer + 1 as n";
    await queryPrepared(other, text, [1]);
    const { rows: [{ name }] } = await other.query("select name from pg_prepared_statements");
    await session.query(`prepare ${name} (integer) as select $1`);
    assert.equal((await queryPrepared(session, text, [41])).rows[0].n, 42);
  } finally {
    await session.close();
    await other.close();
  }
});

test("an error of a statement that is kept prepared is told, and the next one runs", async ({ url }) => {
  const session = await Session.open(options(url));
  try {
    const text = "select 1 / $1::integer as n";
    assert.equal((await queryPrepared(session, text, [1])).rows[0].n, 1);
    await assert.rejects(queryPrepared(session, text, [0]), /division by zero/);
    assert.equal((await queryPrepared(session, text, [1])).rows[0].n, 1);
  } finally {
    await session.close();
  }
});

test("publishing is kept prepared on our own connections, and works where that cannot be", async ({ url, sql }) => {
  await using db = await connect(url, { poolSize: 1 });
  const kept = async () => (await db.query(prepared)).rows[0].count;
  await notify(db, "c", 1);
  await notify(db, "c", 2);
  assert.equal(await kept(), 1);
  await db.query("deallocate all");
  await notify(db, "c", 3);
  await notify(db, "c", 4);
  assert.equal(await kept(), 0, "it prepares no more");
  await db.transaction(async (tx) => void await notify(tx, "c", 5));
  const rows = await sql("select payload from hark.log order by id");
  assert.deepEqual(rows.map(({ payload }) => payload), [1, 2, 3, 4, 5]);
});

test("who puts a query of their own in the place of ours has what is published, too", async ({ url, sql }) => {
  await using db = await connect(url);
  const seen: string[] = [];
  class Joining extends Database {
    override query(text: string, values: unknown[] = []) {
      seen.push("subclass");
      return super.query(text, values);
    }
  }
  await using joining = new Joining(url);
  const query = (text: string, values: unknown[] = []) => {
    seen.push("object");
    return db.query(text, values);
  };
  await notify(joining, "c", 1);
  await notify(Object.create(db, { query: { value: query } }), "c", 2);
  const proxy = new Proxy(db, {
    get: (to, name) => name === "query" ? query : Reflect.get(to, name),
  });
  await notify(proxy, "c", 3);
  assert.deepEqual(seen, ["subclass", "object", "object"]);
  assert.equal((await sql("select from hark.log")).length, 3);
});

test("a short drain ends when all is handled, without waiting until storing is due", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const consumer = new Consumer(db, {
    id: "d",
    channels: "c",
    acknowledgeInterval: 60_000,
    handle: () => {},
  });
  const abort = AbortSignal.timeout(30_000);
  assert.equal(await consumer.drain({ signal: abort }), 1);
  assert.ok(!abort.aborted, "it ended by itself");
  assert.equal(await consumer.drain(), 0, "what it handled is stored");
});
