/** Rows that a foreign key changes are published too, after what they were changed for. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { drift, level, told } from "./_support/kinds.ts";

test("rows that a foreign key removes, moves or empties are published", async (on) => {
  await on.sql(`create table p (id int primary key);
    create table c (id int primary key, p int references p on delete cascade on update cascade);
    create table n (id int primary key, p int references p on delete set null on update cascade);
    select hark.watch('c'), hark.watch('n');
    insert into p values (1), (2); insert into c values (10, 1), (11, 2); insert into n values (20, 1), (21, 2)`);
  await told(on);
  await on.sql("update p set id = 5 where id = 1");
  assert.deepEqual((await told(on)).sort(), [
    'UPDATE 10 {"id":10,"p":1} > {"id":10,"p":5}',
    'UPDATE 20 {"id":20,"p":1} > {"id":20,"p":5}',
  ]);
  await on.sql("delete from p");
  assert.deepEqual((await told(on)).sort(), [
    'DELETE 10 {"id":10,"p":5}',
    'DELETE 11 {"id":11,"p":2}',
    'UPDATE 20 {"id":20,"p":5} > {"id":20}',
    'UPDATE 21 {"id":21,"p":2} > {"id":21}',
  ]);
});

test("a tree in one table, whose branches go with their root, is told from the root on", async (on) => {
  await on.sql(`create table t (id int primary key, up int references t on delete cascade);
    select hark.watch('t'); insert into t values (1, null), (2, 1), (3, 2)`);
  assert.match((await level(on)).join(": "), /row: a foreign key changes rows of the table/);
  await told(on);
  await on.sql("delete from t where id = 1");
  assert.deepEqual(await told(on), [
    'DELETE 1 {"id":1}',
    'DELETE 2 {"id":2,"up":1}',
    'DELETE 3 {"id":3,"up":2}',
  ]);
});

test("two tables that refer to each other, and one row takes all with it: cause before effect", async (on) => {
  await on.sql(`create table a (id int primary key, b int);
    create table b (id int primary key, a int references a on delete cascade);
    alter table a add foreign key (b) references b on delete cascade deferrable initially deferred;
    select hark.watch('a', channel => 'c'), hark.watch('b', channel => 'c');
    insert into a values (1, null), (2, 10); insert into b values (10, 1)`);
  await on.sql("update a set b = 10 where id = 2");
  await told(on);
  await on.sql("delete from a where id = 1");
  assert.deepEqual(await told(on), [
    'DELETE 1 {"id":1}',
    'DELETE 10 {"a":1,"id":10}',
    'DELETE 2 {"b":10,"id":2}',
  ]);
});

test("a row whose key two foreign keys change, one after the other, ends where it is", async (on) => {
  await on.sql(`create table p (id int primary key, x int unique, y int unique);
    create table c (x int references p (x) on update cascade, y int references p (y) on update cascade,
      primary key (x, y));
    select hark.watch('c'); insert into p values (1, 1, 1); insert into c values (1, 1)`);
  await told(on);
  await on.sql("update p set x = 2, y = 3");
  assert.deepEqual(await on.sql("select * from c"), [{ x: 2, y: 3 }]);
  const rows = new Set(['["1", "1"]']);
  for (const one of await told(on)) {
    const [, moved, key] = one.match(/^moved (INSERT|DELETE) (\[.*?\])/)!;
    if (moved === "INSERT") assert(!rows.has(key!) && rows.add(key!), one);
    else assert(rows.delete(key!), one);
  }
  assert.deepEqual([...rows], ['["2", "3"]']);
  assert.deepEqual(await drift(on), []);
});

test("a row that two foreign keys empty, one after the other, ends as it is", async (on) => {
  await on.sql(`create table p (id int primary key);
    create table c (id int primary key, a int references p on delete set null, b int references p on delete set null);
    select hark.watch('c'); insert into p select generate_series(1, 300);
    insert into c select n, n, n from generate_series(1, 300) n`);
  await told(on);
  const client = await on.client();
  await client.query("set work_mem = '64kB'; delete from p");
  const last = new Map<string, string>();
  for (const one of await told(on)) last.set(one.split(" ")[1]!, one);
  for (const [id, one] of last) assert.match(one, new RegExp(`> {"id":${id}}$`));
  assert.equal(last.size, 300);
});
