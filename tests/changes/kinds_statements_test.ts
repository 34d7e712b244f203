/** Whatever the statement, what it did is published, in the order in which it can be followed. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { drift, level, told, toldOf } from "./_support/kinds.ts";

test("INSERT … ON CONFLICT DO UPDATE tells which rows came and which changed", async (on) => {
  await on.sql("create table t (id int primary key, v int); select hark.watch('t')");
  await on.sql("insert into t values (1, 1)");
  await on.sql("insert into t values (1, 5), (2, 2) on conflict (id) do update set v = excluded.v");
  await on.sql("insert into t values (1, 9) on conflict do nothing");
  assert.deepEqual(await told(on), [
    'INSERT 1 {"id":1,"v":1}',
    'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":5}',
    'INSERT 2 {"id":2,"v":2}',
  ]);
});

test("MERGE tells what went, what changed and what came", async (on) => {
  const [{ version }] = await on.sql(
    "select current_setting('server_version_num')::int as version",
  );
  if (version < 150000) return console.log("no MERGE before PostgreSQL 15");
  await on.sql("create table t (id int primary key, v int); insert into t values (1, 1), (2, 2)");
  await on.sql("select hark.watch('t')");
  await on.sql(`merge into t using (values (1), (2), (3)) as s (id) on t.id = s.id
    when matched and t.id = 1 then delete when matched then update set id = 1, v = 0
    when not matched then insert values (s.id, 9)`);
  assert.deepEqual(await told(on), [
    'DELETE 1 {"id":1,"v":1}',
    'moved DELETE 2 {"id":2,"v":2}',
    'moved INSERT 1 {"id":1,"v":0}',
    'INSERT 3 {"id":3,"v":9}',
  ]);
});

test("COPY is published, row by row in the order of its rows", async (on) => {
  await on.sql("create table t (id int primary key); select hark.watch('t')");
  await on.sql("copy t from program 'cat > /dev/null; seq 1 500'");
  assert.deepEqual(
    (await toldOf(on)).map(({ key }) => Number(key)),
    [
      ...Array(500).keys(),
    ].map((n) => n + 1),
  );
});

test("one key of many that moves is found, whatever its type and however many rows change", async (on) => {
  for (
    const [kind, count] of [["int", 3000], ["int", 100_001], ["text", 3000], [
      "text",
      10_001,
    ]] as const
  ) {
    await on.sql(`create table t (id ${kind} primary key, v int);
      insert into t select n, 0 from generate_series(1, ${count}) n; select hark.watch('t')`);
    await on.sql(`update t set v = 1, id = case when id = '7' then '0' else id end`);
    const changes = await on.sql(`select key, count(*)::int from hark.log
      where key in ('0', '7', '8') or payload ? 'moved' group by key order by key`);
    assert.deepEqual(changes.map((change) => Object.values(change)), [["0", 1], ["7", 1], [
      "8",
      1,
    ]]);
    await on.sql("drop table t; truncate hark.log");
  }
});

test("keys that change places in one statement, with a deferrable key, can be followed", async (on) => {
  await on.sql("create table t (id int primary key deferrable, v text); select hark.watch('t')");
  await on.sql("insert into t values (1, 'a'), (2, 'b'), (3, 'c')");
  await told(on);
  await on.sql("update t set id = 3 - id where id < 3");
  assert.deepEqual(await told(on), [
    'moved DELETE 1 {"id":1,"v":"a"}',
    'moved DELETE 2 {"id":2,"v":"b"}',
    'moved INSERT 2 {"id":2,"v":"a"}',
    'moved INSERT 1 {"id":1,"v":"b"}',
  ]);
});

test("a statement that takes rows out and puts them back, in whatever order it runs, leaves them there", async (on) => {
  await on.sql(
    "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')",
  );
  await on.sql("select hark.watch('t')");
  await on.sql(`with gone as (delete from t returning id)
    insert into t select id, 'again' from gone`);
  const actions = (await toldOf(on)).map(({ key, payload }) => `${payload.action} ${key}`);
  for (const id of [1, 2]) {
    assert(actions.indexOf(`DELETE ${id}`) < actions.indexOf(`INSERT ${id}`), actions.join());
  }
});

test("a statement of 10,000 rows after one of a single row is published in seconds", async (on) => {
  const client = await on.client();
  await on.sql("create table t (id int primary key, v int); select hark.watch('t')");
  await client.query("set statement_timeout = '20s'");
  for (let n = 1; n <= 7; n++) {
    await client.query("insert into t values ($1, 0)", [n]);
    await client.query("update t set v = v + 1 where id = $1", [n]);
  }
  await client.query("insert into t select n, 0 from generate_series(100, 10099) n");
  await client.query("update t set v = v + 1");
  await client.query("update t set id = id + 100000");
  await client.query("delete from t");
  const [{ count }] = await on.sql("select count(*)::int from hark.log");
  assert.equal(count, 14 + 10_000 + 4 * 10_007);
});

test("writers in REPEATABLE READ and SERIALIZABLE publish as others do", async (on) => {
  const client = await on.client();
  await on.sql("create table t (id int primary key, v int); select hark.watch('t')");
  for (const isolation of ["repeatable read", "serializable"]) {
    await client.query(`begin isolation level ${isolation}; insert into t values (1, 1);
      update t set v = 2; update t set id = 2; delete from t; commit`);
    assert.deepEqual(await told(on), [
      'INSERT 1 {"id":1,"v":1}',
      'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":2}',
      'moved DELETE 1 {"id":1,"v":2}',
      'moved INSERT 2 {"id":2,"v":2}',
      'DELETE 2 {"id":2,"v":2}',
    ]);
  }
});

test("what is written with session_replication_role = replica is not published, but if `replicated`", async (on) => {
  const client = await on.client();
  await on.sql("create table t (id int primary key); create table r (id int primary key)");
  await on.sql("select hark.watch('t'), hark.watch('r', replicated => true)");
  await client.query("set session_replication_role = replica; insert into t values (1)");
  await client.query("insert into r values (2), (3)");
  assert.deepEqual(await told(on), ['INSERT 2 {"id":2}', 'INSERT 3 {"id":3}']);
});

test("an AFTER ROW trigger that changes the row again: the change is told after what it changed", async (on) => {
  await on.sql(`create table t (id int primary key, v int);
    create function again() returns trigger language plpgsql as $$ begin
      update t set v = v + 1 where id = new.id and v < 3; return null; end $$;
    create trigger "!first" after insert or update on t for each row execute function again();
    select hark.watch('t')`);
  assert.equal((await level(on))[0], "row");
  await on.sql("insert into t values (1, 1), (2, 2)");
  assert.deepEqual((await told(on)).filter((one) => / 1 /.test(one)), [
    'INSERT 1 {"id":1,"v":1}',
    'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":2}',
    'UPDATE 1 {"id":1,"v":2} > {"id":1,"v":3}',
  ]);
  assert.deepEqual(await drift(on), []);
});

test("such a trigger made later is named as drift, and watching again puts the order right", async (on) => {
  await on.sql("create table t (id int primary key, v int); select hark.watch('t')");
  assert.deepEqual(await level(on), ["statement", null]);
  await on.sql(`create function again() returns trigger language plpgsql as $$ begin
      update t set v = v + 1 where id = new.id; return null; end $$;
    create trigger again after insert on t for each row execute function again()`);
  assert.match((await drift(on)).join(), /trigger again may write to the table itself.*repair it/);
  await on.sql("select hark.watch('t')");
  assert.deepEqual(await drift(on), []);
  await on.sql("insert into t values (1, 1)");
  assert.deepEqual(await told(on), [
    'INSERT 1 {"id":1,"v":1}',
    'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":2}',
  ]);
});
