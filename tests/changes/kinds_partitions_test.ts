/** Tables made of tables: whatever table a row is written by, it is published once, as the watched table's. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { drift, level, told, toldOf } from "./_support/kinds.ts";

const parted = `create table t (id int, v int, primary key (id)) partition by range (id);
  create table low partition of t for values from (0) to (10);
  create table high partition of t for values from (10) to (20);`;

test("rows written by the partitioned table, or to a partition, are published as the table's", async (on) => {
  await on.sql(`${parted} select hark.watch('t')`);
  await on.sql("insert into t values (1, 1), (11, 1); insert into low values (2, 2)");
  await on.sql("update high set v = 5; delete from low where id = 1");
  const changes = await toldOf(on);
  assert.deepEqual(new Set(changes.map(({ channel }) => channel)), new Set(["public.t"]));
  assert.deepEqual(new Set(changes.map(({ payload }) => payload.table)), new Set(["t"]));
  assert.deepEqual(
    changes.map(({ key, payload }) => `${payload.action} ${key} ${payload.partition}`),
    ["INSERT 1 low", "INSERT 11 high", "INSERT 2 low", "UPDATE 11 high", "DELETE 1 low"],
  );
});

test("a row that moves to another partition leaves the one and comes to the other", async (on) => {
  await on.sql(`${parted} select hark.watch('t'); insert into t values (1, 1)`);
  await told(on);
  await on.sql("update t set id = 11");
  assert.deepEqual(
    (await told(on)).map((one) => one.replace("moved ", "")),
    ['DELETE 1 {"id":1,"v":1}', 'INSERT 11 {"id":11,"v":1}'],
  );
});

test("partitions that are made or attached later are watched, detached ones are not", async (on) => {
  await on.sql(`${parted} select hark.watch('t')`);
  await on.sql(`create table more partition of t for values from (20) to (30);
    create table other (v int, gone int, id int primary key); alter table other drop column gone;
    insert into other values (1, 30);
    alter table t attach partition other for values from (30) to (40);
    insert into t values (20, 0), (31, 1); insert into other values (2, 32)`);
  assert.deepEqual(await told(on), [
    'INSERT 20 {"id":20,"v":0}',
    'INSERT 31 {"id":31,"v":1}',
    'INSERT 32 {"id":32,"v":2}',
  ]);
  await on.sql("alter table t detach partition other; insert into other values (3, 33)");
  assert.deepEqual(await told(on), []);
});

test("TRUNCATE of the whole is told, and of one partition with the partition's name", async (on) => {
  await on.sql(`${parted} select hark.watch('t')`);
  await on.sql("truncate high");
  assert.deepEqual((await toldOf(on)).map(({ payload }) => payload.partition), ["high"]);
  await on.sql("truncate t");
  const all = await toldOf(on);
  assert(all.every(({ payload }) => payload.action === "TRUNCATE"));
  assert(all.some(({ payload }) => payload.partition === undefined));
});

test("a partition made after the watch lacks only the trigger for TRUNCATE, which drift names", async (on) => {
  await on.sql(`${parted} select hark.watch('t')`);
  await on.sql("create table more partition of t for values from (20) to (30)");
  assert.match(
    (await drift(on)).join(),
    /trigger "00_hark_watch_[0-9a-f]{8}_truncate" on public.more is missing.*repair it/,
  );
  await on.sql("select hark.watch('t'); truncate more");
  assert.deepEqual(await drift(on), []);
  assert.equal((await toldOf(on))[0]!.payload.partition, "more");
});

test("one partition can be watched by itself, also through the table above", async (on) => {
  await on.sql(`${parted} select hark.watch('low'); insert into t values (1, 1), (11, 1);
    insert into low values (2, 2)`);
  const changes = await toldOf(on);
  assert.deepEqual(changes.map(({ payload }) => [payload.table, payload.id]), [["low", 1], [
    "low",
    2,
  ]]);
  assert.match((await level(on)).join(), /row,.*partition/);
});

test("tables that inherit are published with the table above, whichever is written to", async (on) => {
  await on.sql(`create table a (id int primary key, v int);
    create table b (more text, primary key (id)) inherits (a); select hark.watch('a');
    insert into a values (1, 1); insert into b values (2, 2, 'x'); update a set v = v + 1; truncate b`);
  const changes = await toldOf(on);
  assert.deepEqual(changes.map(({ key, payload }) => `${payload.table} ${payload.action} ${key}`), [
    "a INSERT 1",
    "a INSERT 2",
    "a UPDATE 1",
    "a UPDATE 2",
    "a TRUNCATE null",
  ]);
  assert.equal(changes[4]!.payload.partition, "b");
  assert.deepEqual(await drift(on), []);
});

test("a table that comes to inherit later is named as drift until the table is watched again", async (on) => {
  await on.sql(`create table a (id int primary key); select hark.watch('a');
    create table b () inherits (a)`);
  assert.match((await drift(on)).join(), /inherit.*repair it/);
  await on.sql("select hark.watch('a'); insert into b values (3)");
  assert.deepEqual(await drift(on), []);
  assert.deepEqual(await told(on), ['INSERT 3 {"id":3}']);
});

for (
  const [what, tables] of [
    [
      "partition",
      `create table t (id int primary key, v int) partition by range (id);
      create table part partition of t for values from (0) to (10);`,
    ],
    [
      "table that inherits",
      `create table t (id int primary key, v int);
      create table part (primary key (id)) inherits (t);`,
    ],
  ] as const
) {
  test(`a trigger that only a ${what} has, and that changes the row again, is told after its cause`, async (on) => {
    const again = `create trigger "!first" after insert or update on part
      for each row execute function again()`;
    await on.sql(`${tables} create function again() returns trigger language plpgsql as $$ begin
        update t set v = v + 1 where id = new.id and v < 2; return null; end $$;
      ${again}; select hark.watch('t'); insert into part values (1, 1)`);
    const expected = [
      'INSERT 1 {"id":1,"v":1}',
      'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":2}',
    ];
    assert.deepEqual(await told(on), expected);
    assert.deepEqual(await drift(on), []);
    await on.sql("drop trigger \"!first\" on part; delete from part; select hark.watch('t')");
    await on.sql(again);
    assert.match((await drift(on)).join(), /triggers fire in the order of their names/);
    await on.sql("select hark.watch('t')");
    await told(on);
    await on.sql("insert into t values (1, 1)");
    if (what === "partition") assert.deepEqual(await told(on), expected);
    assert.deepEqual(await drift(on), []);
  });
}
