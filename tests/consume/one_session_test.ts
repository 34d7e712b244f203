/** Handlers that use the database itself, where it has no connection left. PGlite: tests/schema/pglite_test.ts. */

import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { Consumer, type ConsumerOptions, type Queryable } from "../../mod.ts";
import { test, type TestContext, within } from "../harness/mod.ts";

/** A user's own pool with transactions. */
function poolOf({ url, use }: TestContext, max: number) {
  const pool = new pg.Pool({ connectionString: url, max });
  use({ [Symbol.asyncDispose]: () => pool.end() });
  const db = {
    query: (text: string, values?: unknown[]) => pool.query(text, values),
    transaction: async <T>(work: (tx: Queryable) => Promise<T>): Promise<T> => {
      const client = await pool.connect();
      try {
        await client.query("begin");
        const result = await work(client);
        await client.query("commit");
        return result;
      } catch (error) {
        await client.query("rollback");
        throw error;
      } finally {
        client.release();
      }
    },
  };
  return { pool, db };
}

/** Drains a transactional consumer; gives the number handled and the errors. */
async function drained(db: Queryable, options: ConsumerOptions): Promise<[number, string[]]> {
  const errors: string[] = [];
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    maxAttempts: 1,
    onDeadLetter: (error) => void errors.push(String(error)),
    ...options,
  });
  return [await within(consumer.drain(), { deadline: 20_000 }), errors];
}

test("a handler that waits for its own pool of one connection fails, and says so", async (context) => {
  await context.sql("select hark.notify('c', '1')");
  const { db } = poolOf(context, 1);
  const [handled, [error]] = await drained(db, {
    handle: async () => void await db.query("select 1"),
  });
  assert.equal(handled, 0);
  assert.match(error!, /no connection was free.*Use context\.tx/);
});

test("handlers that take all connections of a pool between them fail as well", async (context) => {
  await context.sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 3) n");
  const { db } = poolOf(context, 3);
  const begun = Promise.withResolvers<void>();
  let count = 0;
  const [, errors] = await drained(db, {
    concurrency: 3,
    handle: async () => {
      if (++count === 3) begun.resolve();
      await begun.promise;
      await db.query("select 1");
    },
  });
  assert(errors.length > 0);
  for (const error of errors) assert.match(error, /no connection was free/);
});

test("a handler may use a pool that has a connection for it, however long the query takes", async (context) => {
  await context.sql("select hark.notify('c', '1')");
  const { db } = poolOf(context, 4);
  assert.deepEqual(
    await drained(db, { handle: async () => void await db.query("select pg_sleep(2.5)") }),
    [1, []],
  );
});

test("a handler waits for a pool that others keep busy, and goes on when they are done", async (context) => {
  await context.sql("select hark.notify('c', '1')");
  const { db, pool } = poolOf(context, 2);
  let busy: Promise<unknown> | undefined;
  const handled = await drained(db, {
    handle: async () => {
      busy = pool.query("select pg_sleep(4.5)");
      await db.query("select 1");
    },
  });
  await busy;
  assert.deepEqual(handled, [1, []]);
});

test("a handler waits for a connection that another handler keeps while it does something else", async (context) => {
  await context.sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 2) n");
  const { db } = poolOf(context, 2);
  const both = Promise.withResolvers<void>();
  let count = 0;
  const handled = await drained(db, {
    concurrency: 2,
    handle: async ({ payload }) => {
      if (++count === 2) both.resolve();
      await both.promise;
      if (payload === 1) await context.sql("select pg_sleep(4.5)");
      else await db.query("select 1");
    },
  });
  assert.deepEqual(handled, [2, []]);
});

test("timeout ends a handler that waits for a pool that Hark cannot see", async (context) => {
  await context.sql("select hark.notify('c', '1')");
  const { db, pool } = poolOf(context, 1);
  const [handled, [error]] = await drained(db, {
    timeout: 100,
    handle: async () => void await pool.query("select 1"),
  });
  assert.equal(handled, 0);
  assert.match(error!, /took longer than 100 ms/);
});
