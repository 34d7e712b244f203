/** What can happen to a watch behind its back is said in a sentence, and watching again mends it. */

import assert from "node:assert/strict";
import { test, type TestContext, waitsFor } from "../harness/mod.ts";
import { people } from "./_support/rights.ts";

const again = "; repair it (hark.rewatch, hark watch repair)";

async function drift({ sql }: TestContext): Promise<string[]> {
  const rows = await sql("select drift from hark.watches()");
  assert.equal(rows.length, 1);
  return rows[0].drift;
}

/** A statement with the name of the trigger function in it. */
const ofFunction = (statement: string) =>
  `do $do$ begin execute (select format($f$${statement}$f$, format('%I.%I', function_schema, function_name)) from hark.watches); end $do$`;
const slower = `its columns have changed: changes are published more slowly${again}`;

const mishaps: readonly [what: string, how: string, says: string | RegExp][] = [
  [
    "a trigger dropped",
    'drop trigger "00_hark_watch_update" on t',
    `trigger "00_hark_watch_update" on public.t is missing${again}`,
  ],
  [
    "a trigger disabled",
    'alter table t disable trigger "00_hark_watch_insert"',
    'trigger "00_hark_watch_insert" on public.t is disabled',
  ],
  [
    "a trigger that fires for replicas only",
    'alter table t enable replica trigger "00_hark_watch_insert"',
    `trigger "00_hark_watch_insert" on public.t fires in another replication role${again}`,
  ],
  ["a column added", "alter table t add column c integer", slower],
  ["a column dropped", "alter table t drop column b", slower],
  ["a column renamed", "alter table t rename column b to d", slower],
  [
    "a column of another type",
    "alter table t alter column b type integer using 1",
    /columns or keys have changed/,
  ],
  ["no key any more", "alter table t drop constraint t_pkey", /columns or keys have changed/],
  [
    "the function and its triggers dropped",
    ofFunction("drop function %s() cascade"),
    `the trigger function is gone${again}`,
  ],
  [
    "the function replaced",
    ofFunction(
      "create or replace function %s() returns trigger language plpgsql security definer as 'begin return null; end'",
    ),
    /another version of Hark|trigger function/,
  ],
  [
    "the function run with the writer's rights",
    ofFunction("alter function %s() security invoker"),
    `the trigger function was altered${again}`,
  ],
  [
    "the function's settings reset",
    ofFunction("alter function %s() reset all"),
    `the trigger function was altered${again}`,
  ],
  [
    "another trigger added",
    `create function f() returns trigger language plpgsql as 'begin return null; end';
     create trigger later after insert on t for each row execute function f()`,
    /^trigger later may write to the table itself/,
  ],
];

for (const [what, how, says] of mishaps) {
  test(`${what}: drift says it, and hark.watch mends it`, async (context) => {
    const { sql } = context;
    await sql("create table t (id integer primary key, b text)");
    await sql("select hark.watch('t', if_changed => '{*}')");
    assert.deepEqual(await drift(context), []);
    await sql(how);
    const said = await drift(context);
    const isSaid = said.some((it) => typeof says === "string" ? it === says : says.test(it));
    assert.ok(isSaid, JSON.stringify(said));
    const watch = async () =>
      (await sql("select hark.watch('t', if_changed => '{*}') as done"))[0].done;
    assert.equal(await watch(), "replaced");
    assert.deepEqual(await drift(context), []);
    await sql("insert into t (id) values (1); update t set id = 2; delete from t");
    const log = await sql("select payload ->> 'action' as action from hark.log");
    assert.equal(log.length, what === "no key any more" ? 3 : 4);
    assert.equal(await watch(), "unchanged");
  });
}

test("a column of a key chosen by hand dropped: changes go on without it, and drift says so", async (context) => {
  const { sql } = context;
  await sql("create table t (a integer, b integer)");
  await sql("select hark.watch('t', key => '{a,b}')");
  await sql("alter table t drop column b");
  await sql("insert into t values (1)");
  assert.deepEqual(await sql("select key from hark.log"), [{ key: "1" }]);
  assert.ok((await drift(context)).includes(`column b, which key names, is gone${again}`));
  await sql("select hark.watch('t', key => '{a}')");
  assert.deepEqual(await drift(context), []);
});

test("columns and a table that are renamed are followed, also to another schema", async (context) => {
  const { sql } = context;
  await sql("create schema s; create table s.t (id integer primary key, secret text, v text)");
  await sql("select hark.watch('s.t', exclude => '{secret}', if_changed => '{v}')");
  await sql(`alter table s.t rename column secret to v2; alter table s.t rename column v to w;
    alter table s.t rename to u; create schema r; alter table s.u set schema r`);
  await sql("insert into r.u values (1, 'hidden', 'seen')");
  await sql("update r.u set v2 = 'x'");
  await sql("update r.u set w = 'y'");
  const log = await sql(
    "select channel, payload -> 'table' as name, payload -> 'new' as new from hark.log",
  );
  assert.deepEqual(log, [
    { channel: "s.t", name: "u", new: { id: 1, w: "seen" } },
    { channel: "s.t", name: "u", new: { id: 1, w: "y" } },
  ]);
  assert.deepEqual(await sql("select relation_name from hark.watches()"), [{
    relation_name: "r.u",
  }]);
  const [{ done }] = await sql(
    "select hark.watch('r.u', exclude => '{v2}', if_changed => '{w}') as done",
  );
  assert.equal(done, "replaced");
  assert.deepEqual(await drift(context), []);
  assert.deepEqual(await sql("select hark.unwatch('r.u') as done"), [{ done: true }]);
  assert.deepEqual(await sql("select * from hark.watches()"), []);
});

test("a table that is gone is said to be, and its watch can be forgotten", async (context) => {
  const { sql } = context;
  await sql("create table t (id integer primary key)");
  await sql("select hark.watch('t')");
  await sql("drop table t");
  assert.deepEqual(await drift(context), [
    "the table is gone",
  ]);
  const forget = async () => (await sql("select hark.forget_watch('public.t') as done"))[0].done;
  assert.equal(await forget(), true);
  assert.deepEqual(await sql("select * from hark.watches()"), []);
  assert.deepEqual(await sql("select proname from pg_proc where proname ~ '^hark_watch_'"), []);
  assert.equal(await forget(), false);
});

test(
  "another owner, or one who may no longer publish: drift says so",
  { schema: false },
  async (context) => {
    const { sql } = context;
    const { hark, owner, other, writer } = await people(context);
    await owner.sql("select hark.watch('shop.orders')");
    await hark.sql(`revoke insert on hark.published from ${owner.name}`);
    assert.deepEqual(await drift(context), [
      `role "${owner.name}", which owns the table, may not publish, so writes to the table fail; select hark.grant_publish('${owner.name}')`,
    ]);
    await assert.rejects(writer.sql("insert into shop.orders values (1)"), { code: "42501" });
    await hark.sql("select hark.grant_publish($1)", [owner.name]);
    assert.deepEqual(await drift(context), []);
    await sql(
      `alter table shop.orders owner to ${other.name}; grant create on schema shop to ${other.name}`,
    );
    assert.deepEqual(await drift(context), [
      "the table belongs to another role now; watch it again, as that role",
    ]);
    await writer.sql("insert into shop.orders values (1)");
    const [{ count }] = await sql("select count(*)::int from hark.log");
    assert.equal(count, 1, "by the triggers of the old owner, which are still there");
  },
);

test("watching what is watched so already waits for no session", async (context) => {
  const { sql, client } = context;
  await sql("create table t (id integer primary key)");
  await sql("select hark.watch('t')");
  const writer = await client();
  await writer.query("begin; insert into t values (1)");
  await sql("set lock_timeout = '5s'");
  assert.deepEqual(await sql("select hark.watch('t') as done"), [{ done: "unchanged" }]);
  assert.equal((await sql("select * from hark.watches()")).length, 1);
  const other = await client();
  const changing = other.query("select hark.watch('t', payload => 'key') as done");
  await waitsFor(writer, "hark.watch('t', payload");
  await writer.query("commit");
  assert.deepEqual((await changing).rows, [{ done: "replaced" }]);
});
