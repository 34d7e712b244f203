/** Where setContext has an effect, and where it is refused. */

import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer, notify, type Queryable, setContext } from "../../mod.ts";
import { test, type TestContext } from "../harness/mod.ts";

async function headers({ sql }: TestContext): Promise<unknown[]> {
  return (await sql("select headers from hark.log order by id")).map((row) => row.headers);
}

test("a database, a pool and a connection without a transaction are refused", async (c) => {
  const db = c.use(await connect(c.url));
  await using pool = closing(new pg.Pool({ connectionString: c.url, max: 2 }));
  const client = await c.client();
  const wrapped = (inner: Queryable): Queryable => ({
    query: (text, values) => inner.query(text, values),
  });
  const cases: [db: Queryable, message: RegExp][] = [
    [db, /given a Database, where the context would end.*db\.transaction\(async \(tx\) =>/],
    [pool.of, /given a pool, where the context would end.*db\.transaction\(async \(tx\) =>/],
    [client, /outside of a transaction.*Begin a transaction first/],
    [wrapped(db), /outside of a transaction/],
    [wrapped(pool.of), /outside of a transaction/],
    [wrapped(client), /outside of a transaction/],
  ];
  for (const [on, message] of cases) {
    for (const context of [{ a: 1 }, null]) {
      await assert.rejects(setContext(on, context), { code: "BAD_OPTION", message });
    }
  }
  await notify(client, "c", 1);
  assert.deepEqual(await headers(c), [null]);
});

test("in a transaction of any driver the context holds until its end", async (c) => {
  const db = c.use(await connect(c.url));
  await using pool = closing(new pg.Pool({ connectionString: c.url, max: 1 }));
  await db.transaction(async (tx) => {
    await setContext(tx, { by: "db" });
    await notify(tx, "c", 1);
    await setContext(tx, null);
    await notify(tx, "c", 2);
  });
  const client = await pool.of.connect();
  await client.query("begin");
  await setContext(client, { by: "pool" });
  await notify(client, "c", 3);
  await client.query("commit");
  client.release();
  await notify(pool.of, "c", 4);
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    filter: { payload: 4 },
    async handle(_, { tx }) {
      await setContext(tx, { by: "handler" });
      await notify(tx, "d", 5);
      await assert.rejects(setContext(tx, {}, { forSession: true }), { code: "BAD_OPTION" });
    },
  });
  assert.equal(await consumer.drain(), 1);
  assert.deepEqual(await headers(c), [{ by: "db" }, null, { by: "pool" }, null, { by: "handler" }]);
});

test("for a session, only a connection of one's own is taken", async (c) => {
  const db = c.use(await connect(c.url));
  await using pool = closing(new pg.Pool({ connectionString: c.url, max: 1 }));
  const lent = await pool.of.connect();
  const refused = async (on: Queryable, message: RegExp) =>
    await assert.rejects(setContext(on, { a: 1 }, { forSession: true }), {
      code: "BAD_OPTION",
      message,
    });
  await refused(db, /given a Database, whose connections others use next/);
  await refused(pool.of, /given a pool, whose connections others use next/);
  await refused(lent, /given a connection of a pool, which others use next/);
  await db.transaction(async (tx) => await refused(tx, /given a connection of a pool/));
  lent.release();
  // pgbouncer tells its clients a number of its own as the server's process.
  const client = await c.client();
  const query = (text: string, values?: unknown[]) => client.query(text, values);
  const pooled = { query, processID: 1 };
  await refused(pooled, /through a pooler or a proxy.*in each transaction, or connect directly/);
  await setContext(client, { mine: true }, { forSession: true });
  await notify(client, "c", 1);
  await notify(pool.of, "c", 2);
  await notify(db, "c", 3);
  await setContext(client, null, { forSession: true });
  await notify(client, "c", 4);
  assert.deepEqual(await headers(c), [{ mine: true }, null, null, null]);
});

function closing(of: pg.Pool): AsyncDisposable & { of: pg.Pool } {
  return { of, [Symbol.asyncDispose]: () => of.end() };
}
