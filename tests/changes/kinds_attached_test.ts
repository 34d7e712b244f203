/** Watched tables below watched tables: each watch keeps its own triggers. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { drift, ours, toldOf } from "./_support/kinds.ts";
import { people } from "./_support/rights.ts";

const parted = `create table t (id int primary key, v int) partition by range (id);
  create table low partition of t for values from (0) to (10);
  create table part (id int primary key, v int);`;

test("a watched table is attached to a watched partitioned one, in any order, and detached", async (context) => {
  const { sql } = context;
  await sql(`${parted} select hark.watch('low'); select hark.watch('part', level => 'row')`);
  await sql("select hark.watch('t')");
  await sql("alter table t attach partition part for values from (10) to (20)");
  await sql("select hark.rewatch('t')");
  assert.deepEqual(await drift(context), []);
  await sql("insert into t values (1, 1), (11, 1); truncate part");
  const changes = await toldOf(context);
  assert.deepEqual(
    changes.map(({ channel, payload }) => `${channel} ${payload.action}`).sort(),
    [
      "public.low INSERT",
      "public.part INSERT",
      "public.part TRUNCATE",
      "public.t INSERT",
      "public.t INSERT",
      "public.t TRUNCATE",
    ],
  );
  await sql("alter table t detach partition part; select hark.rewatch('t')");
  await sql("insert into part values (12, 1)");
  assert.deepEqual((await toldOf(context)).map(({ channel }) => channel), ["public.part"]);
  assert.deepEqual(await drift(context), []);
  for (const table of ["t", "part", "low"]) {
    assert.deepEqual(await sql("select hark.unwatch($1) as done", [table]), [{ done: true }]);
  }
  assert.deepEqual(await ours(context), []);
});

test("two levels of watched partitioned tables, and watched partitions of them", async (context) => {
  const { sql } = context;
  await sql(`create table t (id int primary key, v int) partition by range (id);
    create table mid (id int primary key, v int) partition by range (id);
    create table low partition of mid for values from (0) to (10);
    select hark.watch('low'); select hark.watch('mid'); select hark.watch('t');
    alter table t attach partition mid for values from (0) to (10);
    select hark.rewatch('low'); select hark.rewatch('mid'); select hark.rewatch('t')`);
  assert.deepEqual(await drift(context), []);
  await sql("insert into t values (1, 1)");
  assert.deepEqual((await toldOf(context)).map(({ channel }) => channel).sort(), [
    "public.low",
    "public.mid",
    "public.t",
  ]);
  await sql("select hark.unwatch('mid'); insert into low values (2, 1)");
  assert.deepEqual((await toldOf(context)).map(({ channel }) => channel).sort(), [
    "public.low",
    "public.t",
  ]);
});

test("a table that inherits keeps its own watch when the table above is watched or lets it go", async (context) => {
  const { sql } = context;
  await sql(`create table a (id int primary key, v int);
    create table b (primary key (id)) inherits (a);
    select hark.watch('b'); select hark.watch('a'); insert into b values (1, 1)`);
  assert.deepEqual((await toldOf(context)).map(({ channel }) => channel).sort(), [
    "public.a",
    "public.b",
  ]);
  assert.deepEqual(await drift(context), []);
  await sql("alter table b no inherit a; select hark.rewatch('a')");
  await sql("insert into b values (2, 1); insert into a values (3, 1)");
  assert.deepEqual((await toldOf(context)).map(({ channel, key }) => `${channel} ${key}`), [
    "public.b 2",
    "public.a 3",
  ]);
  await sql("select hark.unwatch('a'); select hark.unwatch('b')");
  assert.deepEqual(await ours(context), []);
});

test("a partition of another owner keeps the watch that this owner made, under the same name", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const { owner, other } = await people(context);
  await sql(`${parted} alter table t owner to ${owner.name}; alter table low owner to ${other.name};
    grant create on schema public to ${owner.name}, ${other.name}`);
  await other.sql("select hark.watch('low')");
  await sql("select hark.watch('t', operations => '{insert}')");
  await sql("select hark.watch('t', operations => '{insert,delete}')");
  await sql("insert into t values (1, 1)");
  assert.deepEqual((await toldOf(context)).map(({ channel }) => channel).sort(), [
    "public.low",
    "public.t",
  ]);
});

test(
  "a table that inherits and has another owner keeps the triggers of the watch above when this owner watches it",
  {
    schema: false,
  },
  async (context) => {
    const { sql } = context;
    const { owner, other } = await people(context);
    await sql(
      `create table a (id int primary key, v int); create table b (primary key (id)) inherits (a);
    alter table a owner to ${owner.name}; alter table b owner to ${owner.name};
    grant create on schema public to ${owner.name}, ${other.name}`,
    );
    await owner.sql("select hark.watch('a')");
    await sql(`alter table b owner to ${other.name}`);
    await other.sql("select hark.watch('b')");
    await sql("insert into b values (1, 1)");
    assert.deepEqual((await toldOf(context)).map(({ channel }) => channel).sort(), [
      "public.a",
      "public.b",
    ]);
  },
);

test("the owner of a partition neither sees nor ends the watch of the table above", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const { owner, other } = await people(context);
  await sql(`${parted} alter table t owner to ${owner.name}; alter table low owner to ${owner.name};
    grant create on schema public to ${owner.name}, ${other.name}`);
  await owner.sql("select hark.watch('t')");
  await sql(`alter table low owner to ${other.name}`);
  assert.deepEqual(await other.sql("select name from hark.watches"), []);
  await other.sql("update hark.watches set removed = true");
  assert.deepEqual(await sql("select owner from hark.watches"), [{ owner: owner.name }]);
});

for (const name of ["x".repeat(40), "é".repeat(20), "x".repeat(33)]) {
  test(`a watch with a name of 33 bytes or more keeps its triggers on tables below: ${name}`, async (context) => {
    const { sql } = context;
    await sql(parted);
    for (const table of ["low", "t"]) {
      await sql("select hark.watch($1, channel => $2, name => $3)", [table, table, name]);
    }
    assert.deepEqual(
      await sql("select hark.watch('t', channel => 't', name => $1) as done", [name]),
      [
        { done: "unchanged" },
      ],
    );
    await sql("select hark.rewatch('t', $1)", [name]);
    assert.deepEqual(await drift(context), []);
    await sql("insert into t values (1, 1); update low set v = 2; truncate low");
    assert.deepEqual(
      (await toldOf(context)).map(({ channel, payload }) => `${channel} ${payload.action}`).sort(),
      ["INSERT", "TRUNCATE", "UPDATE"].flatMap((action) => [`low ${action}`, `t ${action}`]).sort(),
    );
    await sql(
      "select hark.unwatch('t', $1); select hark.unwatch('low', $1)".replaceAll("$1", `'${name}'`),
    );
    assert.deepEqual(await ours(context), []);
  });
}
