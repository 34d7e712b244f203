import assert from "node:assert/strict";
import { connect, setContext, unwatch, watch, watches, type WatchOptions } from "../../mod.ts";
import { once, test } from "../harness/mod.ts";
import { users, withUsers } from "./_support/users.ts";

test("a table that is not there, and all wrong options, are refused with what would be right", async (c) => {
  const db = await withUsers(c);
  await c.sql("create view seen as select * from users");
  const wrong: [string, unknown, RegExp][] = [
    ["user", {}, /there is no table user\..*with its schema/],
    ["shop.users", {}, /there is no table shop\.users/],
    // PostgreSQL 18 takes what is no name for a name that nothing has.
    ["Users.", {}, /Users\. is not the name of a table|there is no table Users\./],
    ['"users', {}, /"users is not the name of a table|there is no table "users/],
    ["a.b.c.d", {}, /a\.b\.c\.d is not the name of a table|there is no table a\.b\.c\.d/],
    ["", {}, /table is ""/],
    ["seen", {}, /no INSTEAD OF triggers/],
    ["hark.log", {}, /belongs to Hark/],
    ["users", { nmae: "x" }, /no option "nmae".*Known options: channel, name/],
    ["users", { name: "x".repeat(41) }, /name is "x+.*1 to 40/],
    ["users", { operations: ["upsert"] }, /operation is "upsert".*insert, update/],
    ["users", { operations: [] }, /operations is \[\]/],
    ["users", { include: ["nope"] }, /nope.*Its columns are id, email, age/],
    ["users", { include: "id" }, /include is "id".*column name/],
    ["users", { include: ["id"], exclude: ["age"] }, /include is given too/],
    ["users", { key: [""] }, /a column of key is ""/],
    ["users", { when: "" }, /when is ""/],
    ["users", { when: "nwe.age > 1" }, /condition "nwe\.age > 1" cannot be used/],
    ["users", { ifChanged: [] }, /ifChanged is \[\]/],
    ["users", { payload: "rows" }, /payload is "rows".*"full"/],
    ["users", { maxBytes: 0 }, /maxBytes is 0.*1000/],
    ["users", { replicated: 1 }, /replicated is 1/],
    ["users", { level: "table" }, /level is "table".*"auto"/],
    ["users", { snapshot: 1 }, /snapshot is 1/],
    ["users", { snapshot: { batchSize: 0 } }, /batchSize is 0/],
    ["users", { snapshot: { batch: 5 } }, /no option "batch"/],
    ["users", { snapshot: { again: 1 } }, /again is 1/],
    ["users", { snapshot: { onProgress: 1 } }, /onProgress is 1/],
    ["users", { snapshot: { signal: 1 } }, /signal is 1/],
  ];
  for (const [table, options, sentence] of wrong) {
    await assert.rejects(watch(db, table, options as WatchOptions), (error) => {
      const { code, message } = error as { code: string; message: string };
      assert.equal(code, "BAD_OPTION", `${table} ${JSON.stringify(options)}: ${message}`);
      assert.match(message, sentence);
      return true;
    });
  }
  assert.deepEqual(await watches(db), []);
  await assert.rejects(watch(db, "users", { channel: "" }), { code: "BAD_CHANNEL" });
  await assert.rejects(watch(db, "users", { headers: [] as never }), { code: "BAD_PAYLOAD" });
  await assert.rejects(watch(db, users, { channel: "x" } as WatchOptions), {
    code: "BAD_OPTION",
    message: /channel is "x".*Give it to watched\(\)/,
  });
  await assert.rejects(watch({} as never, users), /db is/);
  await assert.rejects(unwatch(db, "nope"), { code: "BAD_OPTION" });
  await assert.rejects(unwatch(db, users, { name: "x" }), { code: "BAD_OPTION" });
  await assert.rejects(setContext(db, [] as never), { code: "BAD_PAYLOAD" });
  await assert.rejects(setContext(db, undefined as never), { code: "BAD_OPTION" });
  await assert.rejects(setContext(db, {}, { forSession: 1 as never }), { code: "BAD_OPTION" });
});

test("who does not own a table is told who does", async (c) => {
  await withUsers(c);
  const role = `r_${c.database}`;
  await c.sql(`create role ${role} login password 'of a test'`);
  try {
    await c.sql(`grant usage on schema hark to ${role}`);
    await c.sql(`grant execute on function hark.version() to ${role}`);
    const url = new URL(c.url);
    url.username = role;
    url.password = "of a test";
    const db = c.use(await connect(url.href));
    await assert.rejects(watches(db), {
      code: "NO_PERMISSION",
      message: /permission denied.*hark\.grant_consume\('\w+'\)/,
    });
    await c.sql("select hark.grant_publish($1)", [role]);
    await assert.rejects(watch(db, users), {
      code: "NO_PERMISSION",
      message: new RegExp(
        `belongs to role "${new URL(c.url).username}".*Only the owner of the table`,
      ),
    });
    await c.sql(`create schema own authorization ${role}`);
    await once(url.href, "create table own.things (id integer primary key)");
    assert.equal((await watch(db, "own.things")).outcome, "created");
    assert.equal(await unwatch(db, "own.things"), true);
    await db.close();
  } finally {
    await c.sql(`drop owned by ${role} cascade`);
    await c.sql(`drop role ${role}`);
  }
});

test("a table that is being written to is not waited for for long, nor are its writers", async (c) => {
  const db = await withUsers(c);
  const writer = await c.client();
  await writer.query("begin");
  await writer.query("insert into users values (1, 'a')");
  const late = {
    code: "TIMEOUT",
    message: /could not lock table public\.users within 50 ms.*lockTimeout/,
  };
  await assert.rejects(watch(db, users, { lockTimeout: 50 }), late);
  await writer.query("commit");
  await db.transaction(async (tx) => {
    await tx.query("set local lock_timeout = '1234ms'");
    await watch(tx, users);
    const { rows: [{ lock_timeout }] } = await tx.query("show lock_timeout");
    assert.equal(lock_timeout, "1234ms", "the caller's own setting");
  });
  await writer.query("begin");
  await writer.query("insert into users values (2, 'b')");
  await assert.rejects(unwatch(db, users, { lockTimeout: 50 }), late);
  await writer.query("commit");
  assert.equal((await watches(db)).length, 1);
  await assert.rejects(watch(db, users, { lockTimeout: 0 }), /lockTimeout is 0/);
});
