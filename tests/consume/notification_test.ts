import assert from "node:assert/strict";
import { connect, Consumer, Notification, notify } from "../../mod.ts";
import { test } from "../harness/mod.ts";

test("a notification carries all that was published, and when", async (context) => {
  const db = context.use(await connect(context.url));
  const before = new Date(Date.now() - 60_000);
  const headers = { trace: "00-1-2", nested: { who: ["é"] } };
  const id = await notify(db, "orders", { n: 1 }, { key: "order-1", headers });
  await notify(db, "orders");
  const got: Notification[] = [];
  await new Consumer(db, { id: "c", channels: "orders", handle: (n) => void got.push(n) }).drain();
  const [first, second] = got as [Notification, Notification];
  assert.equal(first.id, id);
  assert.equal(first.channel, "orders");
  assert.equal(`${first}`, `orders #${id}`);
  assert.equal(first.key, "order-1");
  assert.deepEqual(first.payload, { n: 1 });
  assert.equal(first.payload, first.payload, "parsed once");
  assert.deepEqual(JSON.parse(first.payloadText), { n: 1 });
  assert.deepEqual(first.headers, headers);
  assert.equal(first.attempt, 1);
  assert.equal(first.isReplay, true);
  assert(first.createdAt > before && first.createdAt < new Date(Date.now() + 60_000));
  assert.equal(first.isDatabaseChange, false);
  assert.deepEqual([second.payload, second.key, second.headers], [{}, null, {}]);
  assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(first))), [
    "id",
    "channel",
    "key",
    "payload",
    "headers",
    "createdAt",
    "isReplay",
    "attempt",
  ]);
});

test("createdAt has the server's milliseconds, whatever the time zones of the two", async (context) => {
  await context.sql(`alter database ${context.database} set timezone = 'Asia/Kathmandu'`);
  await context.sql(`alter database ${context.database} set datestyle = 'German'`);
  await context.sql(`alter database ${context.database} set intervalstyle = 'iso_8601'`);
  const db = context.use(await connect(context.url));
  await notify(db, "c");
  const got: Notification[] = [];
  await new Consumer(db, { id: "c", channels: "c", handle: (n) => void got.push(n) }).drain();
  const [{ ms }] = await context.sql(
    "select floor(date_part('epoch', created_at) * 1000)::text as ms from hark.log",
  );
  assert.equal(String(got[0]!.createdAt.getTime()), ms);
});

test("numbers beyond 2^53 keep their digits in payloadText", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql(
    `select hark.notify('c', '{"big": 12345678901234567890.12345678901234567890}')`,
  );
  await new Consumer(db, {
    id: "c",
    channels: "c",
    handle: (n) => assert.match(n.payloadText, /12345678901234567890\.12345678901234567890/),
  }).drain();
});

/** A notification of a change, as a trigger publishes it. */
function change(payload: unknown): Notification {
  return new Notification({
    id: 1,
    channel: "c",
    key: null,
    payload: JSON.stringify(payload),
    headers: null,
    createdAt: 0,
    isReplay: false,
  });
}

Deno.test("a table's change is told by table, action, id, old and new", () => {
  const update = change({ table: "t", action: "update", id: 7, old: { a: 1 }, new: { a: 2 } });
  assert.equal(update.isDatabaseChange && update.isUpdate, true);
  assert.equal(update.isInsert || update.isDelete, false);
  assert.equal(update.table, "t");
  assert.equal(update.action, "UPDATE");
  assert.equal(update.recordId, 7);
  assert.deepEqual([update.oldData, update.newData], [{ a: 1 }, { a: 2 }]);

  const insert = change({ table: "t", action: "INSERT", id: "x", new: {} });
  assert.deepEqual([insert.isInsert, insert.oldData, insert.newData], [true, undefined, {}]);
  const gone = change({ table: "t", action: "DELETE", id: [1, 2], old: { a: 1 }, new: null });
  assert.deepEqual([gone.isDelete, gone.newData, gone.recordId], [true, undefined, [1, 2]]);
  const truncate = change({ table: "t", action: "TRUNCATE" });
  assert.deepEqual([truncate.action, truncate.isDatabaseChange], ["TRUNCATE", true]);
  assert.equal(truncate.isInsert || truncate.isUpdate || truncate.isDelete, false);
  assert.deepEqual([truncate.isTruncate, truncate.isSnapshot], [true, false]);
  const snapshot = change({ table: "t", action: "snapshot", id: 7, new: { a: 1 } });
  assert.deepEqual([snapshot.isDatabaseChange, snapshot.action], [true, "SNAPSHOT"]);
  assert.deepEqual([snapshot.isSnapshot, snapshot.isInsert, snapshot.isTruncate], [
    true,
    false,
    false,
  ]);
  assert.deepEqual([snapshot.oldData, snapshot.newData], [undefined, { a: 1 }]);
});

Deno.test("what only looks like a change is none", () => {
  const others = [
    null,
    7,
    "INSERT",
    true,
    [{ table: "t", action: "INSERT" }],
    {},
    { table: "t" },
    { action: "INSERT" },
    { table: 7, action: "INSERT" },
    { table: "t", action: "MERGE" },
    { table: "t", action: 7, id: 1, new: { a: 1 } },
  ];
  for (const payload of others) {
    const n = change(payload);
    assert.equal(n.isDatabaseChange, false, JSON.stringify(payload));
    assert.equal(n.isInsert || n.isUpdate || n.isDelete || n.isTruncate || n.isSnapshot, false);
    assert.deepEqual([n.recordId, n.oldData, n.newData], [undefined, undefined, undefined]);
  }
});
