import assert from "node:assert/strict";
import { cleanup, connect } from "../../mod.ts";
import { test, type TestContext } from "../harness/mod.ts";

/** Publishes more past the last segment than a worker moves. */
async function overflow({ sql }: TestContext): Promise<void> {
  await sql("select setval('hark.log_id_seq', 6000000)");
  await sql(
    `select hark.notify('c', to_jsonb(repeat('x', 1900))) from generate_series(1, 34000)`,
  );
  const [{ bytes }] = await sql("select pg_relation_size('hark.log_overflow')::int as bytes");
  assert(bytes > 67_108_864, `${bytes}`);
}

test("a worker that makes room in the log blocks no publisher while much is in the overflow segment", async (context) => {
  await overflow(context);
  const worker = await context.client();
  const publisher = await context.client();
  await worker.query("begin");
  await worker.query("select hark.extend()");
  // The locks that it took are held until it commits: with one that blocks, this would not come back.
  await publisher.query("set lock_timeout = '5s'");
  await publisher.query("select hark.notify('c')");
  const locks = await context.sql(
    `select l.relation::regclass::text as name, l.mode from pg_locks l join pg_class c on c.oid = l.relation
     where l.pid = $1 and c.relname ~ '^log' and c.relkind in ('r', 'p') and l.mode <> 'AccessShareLock'`,
    [(worker as unknown as { processID: number }).processID],
  );
  assert.deepEqual(locks, []);
  await worker.query("rollback");
});

test("cleanup makes room in the log, however much is in the overflow segment", async (context) => {
  await overflow(context);
  const db = context.use(await connect(context.url));
  await cleanup(db, { olderThan: "1d" });
  const [{ bytes }] = await context.sql(
    "select pg_relation_size('hark.log_overflow')::int as bytes",
  );
  assert.equal(bytes, 0);
  assert.equal((await context.sql("select from hark.log")).length, 34_000);
  await context.sql("select hark.notify('c')");
  assert.deepEqual(await context.sql("select from hark.log_overflow"), []);
});
