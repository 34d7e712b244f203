/** Tables change while they are watched: columns come, go and get other names, and so do tables. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { drift, told, toldOf } from "./_support/kinds.ts";

test("generated and identity columns are published with their values", async (on) => {
  await on.sql(`create table t (id int generated always as identity primary key, v int,
    twice int generated always as (v * 2) stored); select hark.watch('t')`);
  await on.sql("insert into t (v) values (1), (2); update t set v = 5 where id = 1");
  assert.deepEqual(await told(on), [
    'INSERT 1 {"id":1,"twice":2,"v":1}',
    'INSERT 2 {"id":2,"twice":4,"v":2}',
    'UPDATE 1 {"id":1,"twice":2,"v":1} > {"id":1,"twice":10,"v":5}',
  ]);
});

test("columns that are added, dropped or renamed are published as they are then, in the same session too", async (on) => {
  const client = await on.client();
  await client.query(
    "create table t (id int primary key, a int, gone int); alter table t drop column gone",
  );
  await client.query("select hark.watch('t'); insert into t values (1, 1)");
  await client.query("alter table t add column b text; insert into t values (2, 2, 'b')");
  await client.query("alter table t rename column a to z; update t set z = 9 where id = 1");
  await client.query("alter table t drop column z; insert into t values (3, 'b')");
  await client.query(
    "alter table t alter column b type jsonb using to_jsonb(b); delete from t where id = 3",
  );
  assert.deepEqual(await told(on), [
    'INSERT 1 {"a":1,"id":1}',
    'INSERT 2 {"a":2,"b":"b","id":2}',
    'UPDATE 1 {"id":1,"z":1} > {"id":1,"z":9}',
    'INSERT 3 {"b":"b","id":3}',
    'DELETE 3 {"b":"b","id":3}',
  ]);
  assert.match((await drift(on)).join(), /columns have changed.*repair it/);
  await client.query("select hark.watch('t')");
  assert.deepEqual(await drift(on), []);
  await client.query("update t set b = '1' where id = 1");
  assert.deepEqual(await told(on), ['UPDATE 1 {"id":1} > {"b":1,"id":1}']);
});

test("a column that is not published stays so when it gets another name, and so does what takes its name", async (on) => {
  await on.sql(`create table t (id int primary key, secret text, open text);
    select hark.watch('t', exclude => '{secret}')`);
  await on.sql("alter table t rename secret to hidden; insert into t values (1, 'no', 'yes')");
  await on.sql("alter table t rename open to secret; insert into t values (2, 'no', 'perhaps')");
  assert.deepEqual(await told(on), ['INSERT 1 {"id":1,"open":"yes"}', 'INSERT 2 {"id":2}']);
});

test("a key keeps being the key when its column gets another name", async (on) => {
  await on.sql(`create table a (id int primary key); create table b (x int, y int);
    select hark.watch('a'), hark.watch('b', key => '{y,x}')`);
  await on.sql(
    `alter table a rename id to number; alter table b rename y to z; alter table b rename x to y;
    insert into a values (7); insert into b values (1, 2)`,
  );
  const changes = await toldOf(on);
  assert.deepEqual(changes.map(({ key, payload }) => [key, payload.id]), [
    ["7", 7],
    ['["2", "1"]', { z: 2, y: 1 }],
  ]);
});

test("a table that moves to another name and schema goes on being published, under its new name", async (on) => {
  await on.sql("create table t (id int primary key); select hark.watch('t')");
  await on.sql(
    `create schema "Other"; alter table t rename to "T 2"; alter table "T 2" set schema "Other";
    insert into "Other"."T 2" values (1)`,
  );
  const [change] = await toldOf(on);
  assert.deepEqual([change!.channel, change!.payload.schema, change!.payload.table], [
    "public.t",
    "Other",
    "T 2",
  ]);
  const [watch] = await on.sql("select relation_name, drift from hark.watches()");
  assert.deepEqual(watch, { relation_name: "Other.T 2", drift: [] });
  await on.sql(`select hark.unwatch('"Other"."T 2"')`);
  assert.deepEqual(await on.sql("select from hark.watches()"), []);
});

for (
  const name of [
    `Mixed "quoted" it's`,
    "ä".repeat(31),
    "x".repeat(63),
    "日本 🦔 $hark$ %I %s \\ $1",
    "old",
    "hark_n",
    "head",
    "user",
  ]
) {
  test(`a table, its schema and its columns may be named ${name}`, async (on) => {
    const client = await on.client();
    const quoted = `"${name.replaceAll('"', '""')}"`;
    await client.query(
      `create schema ${quoted}; create table ${quoted}.${quoted} (${quoted} int primary key, "v" int)`,
    );
    for (const level of ["statement", "row"]) {
      await client.query(
        "select hark.watch($1::text::regclass, level => $2, if_changed => '{*}')",
        [
          `${quoted}.${quoted}`,
          level,
        ],
      );
      await client.query(
        `insert into ${quoted}.${quoted} values (1, 1); update ${quoted}.${quoted} set v = 2;
        update ${quoted}.${quoted} set ${quoted} = 2; delete from ${quoted}.${quoted}; truncate ${quoted}.${quoted}`,
      );
      const changes = await toldOf(on);
      assert.equal(changes[0]!.channel, `${name}.${name}`.slice(0, 200));
      assert.deepEqual(changes.map(({ payload }) => payload.action), [
        "INSERT",
        "UPDATE",
        "DELETE",
        "INSERT",
        "DELETE",
        "TRUNCATE",
      ]);
      assert.deepEqual(changes[1]!.payload.new, { [name]: 1, v: 2 });
    }
    assert.deepEqual(await drift(on), []);
  });
}

test("a table without columns, one of 300 and one that is unlogged are published", async (on) => {
  const columns = Array.from({ length: 300 }, (_, n) => `c${n} int default ${n}`);
  await on.sql(`create table none (); create table wide (id int primary key, ${columns.join(", ")});
    create unlogged table fast (id int primary key);
    select hark.watch('none'), hark.watch('wide'), hark.watch('fast')`);
  await on.sql(`insert into none default values; insert into wide (id) values (1);
    update wide set c299 = 0; insert into fast values (1)`);
  const [none, wide, updated, fast] = await toldOf(on);
  assert.deepEqual([none!.key, none!.payload.new], [null, {}]);
  assert.equal(Object.keys(wide!.payload.new!).length, 301);
  assert.deepEqual(updated!.payload.changed, ["c299"]);
  assert.deepEqual(fast!.payload.new, { id: 1 });
});

test("what cannot be watched is refused with the reason", async (on) => {
  const client = await on.client();
  await client.query(
    `create temporary table brief (id int); create materialized view kept as select 1 as a;
    create view plain as select 1 as a; create sequence numbers; create table t (id int);
    create index indexed on t (id)`,
  );
  for (
    const [name, reason] of [
      ["brief", /is temporary and cannot be watched/],
      ["kept", /is a materialized view, which has no triggers/],
      ["plain", /has no INSTEAD OF triggers: PostgreSQL writes to its tables instead/],
      ["numbers", /numbers is not a table/],
      ["indexed", /indexed is not a table/],
      ["pg_class", /belongs to PostgreSQL/],
      ["information_schema.sql_features", /belongs to PostgreSQL/],
      ["hark.log", /belongs to Hark/],
      ["hark.watches", /belongs to Hark/],
    ] as const
  ) {
    await assert.rejects(client.query("select hark.watch($1::text::regclass)", [name]), (error) => {
      const { code, message, hint } = error as Error & { code: string; hint?: string };
      assert.equal(code, "HK006");
      assert.match(message, reason);
      assert(hint);
      return true;
    });
  }
});
