import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { said } from "../faults/_support/logs.ts";
import { test, within } from "../harness/mod.ts";

test("what a program publishes without awaiting it is published before the database closes", async ({ url, sql }) => {
  {
    await using db = await connect(url);
    for (let n = 1; n <= 5; n++) void notify(db, "orders", { n });
  }
  assert.deepEqual(await sql("select count(*)::integer as count from hark.log"), [{ count: 5 }]);
  {
    // More than the pool has connections, and in a transaction.
    await using db = await connect(url, { poolSize: 1 });
    for (let n = 1; n <= 30; n++) void notify(db, "orders", { n });
    void db.transaction(async (tx) => {
      await tx.query("select pg_sleep(1.2)");
      await notify(tx, "orders", { last: true });
    });
  }
  assert.deepEqual(await sql("select count(*)::integer as count from hark.log"), [{ count: 36 }]);
});

test("close() warns of a statement that does not end, and cuts it off", async ({ url, sql }) => {
  const begun = Date.now();
  const db = await connect(url);
  const endless = db.query("select pg_sleep(60)");
  const cut = assert.rejects(endless);
  await within(db.close(), { deadline: 20_000, what: "close() to end" });
  await cut;
  await sql(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and query = 'select pg_sleep(60)'`);
  await said("warning", /^a database is closed although statements .* 1 in all, after /, begun);
});
