import assert from "node:assert/strict";
import { connect, notify, type Queryable } from "../../mod.ts";
import { test } from "../harness/mod.ts";

test("db.transaction() fails if a statement failed in it, also if the program caught that error", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await sql("create table seen (id int primary key)");
  const twice = "insert into seen values (1), (1)";
  const swallowing = db.transaction(async (tx) => {
    await notify(tx, "orders", { id: 1 });
    await tx.query(twice).catch(() => {});
    await tx.query("select 1").catch(() => {});
    return "published";
  });
  await assert.rejects(swallowing, {
    code: "DATABASE",
    sqlState: "23505",
    message: /rolled back: a statement .*duplicate key.*\. Throw that error on, or .* savepoint\.$/,
  });
  assert.deepEqual(await sql("select from hark.log"), []);

  const behindASavepoint = await db.transaction(async (tx) => {
    await notify(tx, "orders", { id: 1 });
    await tx.query("savepoint s");
    await tx.query(twice).catch(() => tx.query("rollback to s"));
    return "published";
  });
  assert.equal(behindASavepoint, "published");
  assert.equal((await sql("select from hark.log")).length, 1);
});

test("what a transaction left running gets into no other one, however the transaction ended", async ({ url, use, sql }) => {
  const db = use(await connect(url, { poolSize: 1 }));
  const over = { code: "CONFLICT", message: /^this transaction is over\. Await every query / };
  let left!: Queryable;
  const failing = db.transaction((tx) => {
    left = tx;
    return Promise.reject(new Error("out of stock"));
  });
  await assert.rejects(failing, /out of stock/);
  await assert.rejects(notify(left, "orders", 1), over);
  await db.transaction((tx) => {
    left = tx;
    return Promise.resolve();
  });
  await db.transaction(async (tx) => {
    await notify(tx, "orders", 2);
    await assert.rejects(notify(left, "orders", 3), over);
  });
  assert.deepEqual(await sql("select payload from hark.log"), [{ payload: 2 }]);
});

test("publishing in a read-only transaction is refused with how to begin another", async ({ url, use }) => {
  const db = use(await connect(url));
  const reading = db.transaction(async (tx) => {
    await tx.query("set transaction read only");
    await notify(tx, "orders", { id: 1 });
  });
  await assert.rejects(reading, {
    code: "NOT_PRIMARY",
    message:
      /^this transaction is read-only: cannot execute .*\. Connect to the primary, or begin it READ WRITE\.$/,
  });
});
