/** hark.notify_data_change(), for those who write their own CREATE TRIGGER. */

import assert from "node:assert/strict";
import { test, type TestContext } from "../harness/mod.ts";

const tell = (events: string, on: string, how = "for each row", args = "") =>
  `create trigger "tell ${events} ${how}" ${events} on ${on} ${how} execute function hark.notify_data_change(${args})`;

async function log({ sql }: TestContext): Promise<unknown[]> {
  const rows = await sql(
    `select channel, key, payload - 'metadata' - 'schema' - 'table' as payload from hark.log order by id`,
  );
  return rows.map(({ channel, key, payload }) => [channel, key, payload]);
}

test("the channel is the argument, and schema.table without one", async (context) => {
  const { sql } = context;
  await sql(
    'create schema "Big-Shop"; create table "Big-Shop"."Order Lines" (id integer primary key, v text)',
  );
  const name = '"Big-Shop"."Order Lines"';
  await sql(tell("after insert or update or delete", name));
  await sql(`insert into ${name} values (1, 'it''s "x"')`);
  await sql(`update ${name} set v = 'y'`);
  await sql(`update ${name} set id = 2`);
  await sql(`delete from ${name}`);
  const [channel, x, y] = ["Big-Shop.Order Lines", { id: 1, v: 'it\'s "x"' }, { id: 1, v: "y" }];
  assert.deepEqual(await log(context), [
    [channel, "1", { action: "INSERT", id: 1, new: x }],
    [channel, "1", { action: "UPDATE", id: 1, old: x, new: y, changed: ["v"] }],
    [channel, "1", { action: "DELETE", id: 1, old: y, moved: true }],
    [channel, "2", { action: "INSERT", id: 2, new: { id: 2, v: "y" }, moved: true }],
    [channel, "2", { action: "DELETE", id: 2, old: { id: 2, v: "y" } }],
  ]);
  await sql("truncate hark.log; create table t (id integer primary key)");
  await sql(tell("after insert", "t", "for each row", "'users-changes Ü'"));
  await sql("insert into t values (1)");
  assert.deepEqual(await log(context), [["users-changes Ü", "1", {
    action: "INSERT",
    id: 1,
    new: { id: 1 },
  }]]);
});

test("for a statement it says that something was done", async (context) => {
  const { sql } = context;
  await sql("create table t (id integer primary key)");
  await sql(tell("after insert or update or delete or truncate", "t", "for each statement"));
  await sql("insert into t values (1), (2)");
  await sql("truncate t");
  assert.deepEqual(await log(context), [
    ["public.t", null, { action: "INSERT", id: null }],
    ["public.t", null, { action: "TRUNCATE", id: null }],
  ]);
});

test("before a row it cancels no INSERT, UPDATE or DELETE", async (context) => {
  const { sql } = context;
  await sql("create table t (id integer primary key, v integer)");
  await sql(tell("before insert or update or delete", "t"));
  await sql("insert into t values (1, 1)");
  await sql("update t set v = 2");
  assert.deepEqual(await sql("select * from t"), [{ id: 1, v: 2 }]);
  await sql("delete from t");
  assert.deepEqual(await sql("select * from t"), []);
  assert.equal((await log(context)).length, 3);
});

test("instead of a view's rows", async (context) => {
  const { sql } = context;
  await sql("create table t (id integer primary key); create view v as select id from t");
  await sql(tell("instead of insert or update or delete", "v"));
  const { rowCount } = await context.admin.query("insert into v values (1)") as {
    rowCount?: number;
  };
  assert.equal(rowCount, 1);
  assert.deepEqual(await log(context), [["public.v", null, {
    action: "INSERT",
    id: null,
    new: { id: 1 },
  }]]);
});

test("tables without a key, with a key of two columns, and of a type of one's own", async (context) => {
  const { sql } = context;
  await sql(`create type size as enum ('s', 'm');
    create table bare (v integer); create table pair (a integer, b text, primary key (b, a));
    create table own (s size primary key, v text)`);
  for (const name of ["bare", "pair", "own"]) {
    await sql(tell("after insert or update or delete", name));
  }
  await sql(
    "insert into bare values (1); insert into pair values (1, 'x\"'); insert into own values ('s')",
  );
  await sql("update own set v = 'z'");
  const pair = { a: 1, b: 'x"' };
  assert.deepEqual(await log(context), [
    ["public.bare", null, { action: "INSERT", id: null, new: { v: 1 } }],
    ["public.pair", '["x\\"", "1"]', { action: "INSERT", id: pair, new: pair }],
    ["public.own", "s", { action: "INSERT", id: "s", new: { s: "s", v: null } }],
    ["public.own", "s", {
      action: "UPDATE",
      id: "s",
      old: { s: "s", v: null },
      new: { s: "s", v: "z" },
      changed: ["v"],
    }],
  ]);
});

test("too long a channel is refused by name, and says what to do", async ({ sql }) => {
  await sql("create table t (id integer primary key)");
  await sql(tell("after insert", "t", "for each row", `'${"é".repeat(201)}'`));
  await assert.rejects(sql("insert into t values (1)"), {
    code: "HK006",
    message:
      "trigger tell after insert for each row gives hark.notify_data_change a channel of 201 characters",
  });
  await sql('drop trigger "tell after insert for each row" on t');
  await sql(tell("after insert", "t", "for each row", `'${"é".repeat(200)}'`));
  await sql("insert into t values (1)");
});

test("a table of the longest names has a channel of them", async ({ sql }) => {
  const name = "é".repeat(31);
  await sql(`create schema "${name}"; create table "${name}"."${name}" (id integer)`);
  await sql(tell("after insert", `"${name}"."${name}"`));
  await sql(`insert into "${name}"."${name}" values (1)`);
  assert.deepEqual(await sql("select channel from hark.log"), [{ channel: `${name}.${name}` }]);
});

test("it is called as a trigger and in no other way", async ({ sql }) => {
  await assert.rejects(sql("select hark.notify_data_change()"), { code: "0A000" });
});
