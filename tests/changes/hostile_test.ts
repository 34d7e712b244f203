/** What a hostile owner, or a hostile writer, gets to run with the rights of others: nothing. */

import assert from "node:assert/strict";
import { test, type TestContext } from "../harness/mod.ts";
import { type People, people } from "./_support/rights.ts";

/** Functions that note down who they ran as. Every way in leads to this one. */
async function spy(
  { sql }: TestContext,
  { other, owner, writer, hark }: People,
): Promise<() => Promise<string[]>> {
  await sql(`create schema spy; create table spy.ran (as_who text default current_user, what text);
    grant usage on schema spy to public; grant insert on spy.ran to public;
    grant create on schema spy to ${other.name};`);
  await other.sql(
    `create function spy.note(what text) returns boolean language plpgsql as $$
    begin
      execute format('insert into spy.ran (what) values (%L)', what);
      return true;
    end $$`,
  );
  const known = new Map(
    Object.entries({ hark, owner, other, writer }).map(([who, { name }]) => [name, who]),
  );
  return async () => {
    const rows = await sql("select distinct as_who, what from spy.ran order by 1, 2");
    return rows.map(({ as_who, what }) => `${what} as ${known.get(as_who) ?? "superuser"}`);
  };
}

test("a superuser who handles a hostile owner's watch runs nothing of that owner's", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const everyone = await people(context);
  const { other } = everyone;
  const ran = await spy(context, everyone);
  // An immutable function is called when a statement is planned, also where it is only explained.
  await other.sql(`create function spy.flag(text) returns boolean immutable language plpgsql
      as $$ begin perform spy.note($1); return true; end $$;
    create domain other.odd as text check (spy.note('domain'));
    create type other.kind as enum ('a');
    create function other.to_json(other.kind) returns json language plpgsql
      as $$ begin perform spy.note('cast'); return '1'; end $$;
    create cast (other.kind as json) with function other.to_json(other.kind) as implicit;
    create table other.mine (id integer primary key, kind other.kind default 'a', odd other.odd);
    insert into other.mine select generate_series(1, 3), 'a', 'x'`);
  const condition = "spy.flag('condition') and new.odd = 'x'";
  const watch = "select hark.watch('other.mine', condition => $1)";
  await sql("select hark.watch_sql('other.mine', condition => $1)", [condition]);
  await sql(watch, [condition]);
  await sql(watch.replace("$1", "$1, payload => 'new', if_changed => '{*}'"), [condition]);
  await sql("select * from hark.watches()");
  for (
    const breakout of [
      "true); select spy.flag('breakout'); select (true",
      "true) or spy.flag('x') -- ",
      "true) end union select from (values (1)) x (y) where spy.flag('union') and case when true then (true",
      "spy.flag('a')) /*",
      "(select spy.flag('$hark$'); )",
      "exists (with x as (delete from other.mine returning 1) select from x)",
      "$1 = 1",
      "tg_op = 'INSERT'",
      "",
      "1",
    ]
  ) {
    await assert.rejects(sql(watch, [breakout]), { code: "HK006" }, breakout);
  }
  const asSuperuser = async () => (await ran()).filter((it) => it.endsWith("superuser"));
  assert.deepEqual(await asSuperuser(), []);
  await sql("select hark.watch('other.mine', condition => $1, snapshot => true)", [condition]);
  while (!(await sql("select * from hark.snapshot('other.mine', batch => 2)"))[0].done);
  assert.deepEqual(await ran(), ["condition as other", "domain as other"]);

  // What stands where Hark's functions are to stand.
  const [{ name }] = await sql(
    "select function_name as name from hark.watches where name = 'watch'",
  );
  const snapshot = name.replace("hark_watch_", "hark_snapshot_");
  await other.sql(
    `create or replace function other.${snapshot}(after jsonb, batch integer, out made integer, out last jsonb)
      returns setof record language plpgsql as $$ begin perform spy.note('snapshot'); return next; end $$;
    alter function other.${snapshot}(jsonb, integer) security invoker;
    create or replace function other.${name}() returns trigger language plpgsql
      as $$ begin perform spy.note('trigger'); return null; end $$;`,
  );
  await sql("select hark.restart_snapshot('other.mine')");
  await other.sql(
    `create or replace function other.${snapshot}(after jsonb, batch integer, out made integer, out last jsonb)
      returns setof record language plpgsql as $$ begin perform spy.note('snapshot'); return next; end $$`,
  );
  await sql("select * from hark.snapshot('other.mine')").catch((error) =>
    assert.equal(error.code, "23502", "what it gave was not to be used")
  );
  await sql("select * from hark.watches()");
  await sql(watch, [condition]);
  await sql("select hark.unwatch('other.mine')");
  assert.deepEqual(await asSuperuser(), []);
});

test("a row of hark.watches that names others' functions has a superuser touch none of them", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const everyone = await people(context);
  const { other, owner, writer } = everyone;
  await owner.sql("select hark.watch('shop.orders')");
  await other.sql(
    "create table other.mine (id integer primary key); select hark.watch('other.mine')",
  );
  const [{ function_name: theirs }] = await owner.sql("select function_name from hark.watches");
  await other.sql("select hark.unwatch('other.mine'); select hark.watch('other.mine')");
  for (
    const [schema, name] of [["shop", theirs], ["hark", "notify_data_change"], [
      "pg_catalog",
      "hark_watch_x",
    ]]
  ) {
    await other.sql(
      "update hark.watches set removed = true; drop table other.mine; create table other.mine (id integer primary key)",
    );
    await other.sql("select hark.watch('other.mine')");
    await other.sql("update hark.watches set function_schema = $1, function_name = $2", [
      schema,
      name,
    ]);
    const called = `${schema}.${name}`;
    await sql("select * from hark.watches()");
    for (
      const call of [
        "watch('other.mine', payload => 'key')",
        "snapshot('other.mine')",
        "restart_snapshot('other.mine')",
      ]
    ) {
      // Where the row is seen to be of no table, a watch of its own is made, or there is none.
      await sql(`select hark.${call}`).catch((error) =>
        assert.match(error.code, /HK006|42501/, called)
      );
    }
    await sql("select hark.unwatch('other.mine')");
  }
  await sql("select hark.unwatch('other.mine')");
  await writer.sql("insert into shop.orders values (1)");
  const [{ count }] = await sql("select count(*)::int from hark.log");
  assert.equal(count, 1);
  const planted = await sql(
    `select oid::regprocedure::text from pg_proc where proname ~ '^hark_(watch|snapshot)_'
     and pronamespace in ('pg_catalog'::regnamespace, 'hark'::regnamespace)`,
  );
  assert.deepEqual(planted, []);
});

test("nothing of a writer's, and nothing that types bring along, runs with Hark's rights", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const everyone = await people(context);
  const { other, owner, writer } = everyone;
  const ran = await spy(context, everyone);
  await other.sql(`
    create type other.kind as enum ('a', 'b');
    create type other.pair as (a integer, k other.kind);
    create domain other.odd as text check (spy.note('domain'));
    grant usage on schema other to public;`);
  const types = ["other.kind", "other.pair"];
  for (const [n, type] of types.entries()) {
    for (const [m, target] of ["json", "jsonb", "text", "int4"].entries()) {
      await other.sql(
        `create function other.cast_${n}_${m}(${type}) returns ${target} language plpgsql
          as $$ begin perform spy.note('cast of ${type} to ${target}'); return '1'; end $$;
        create cast (${type} as ${target}) with function other.cast_${n}_${m}(${type}) as implicit`,
      );
    }
    for (const operator of ["=", "<>", "||", "->"]) {
      const result = "boolean";
      await other.sql(
        `create function other.f_${n}_${operator.length}_${operator.charCodeAt(0)}(${type}, ${type})
          returns ${result} language plpgsql as $$ begin return spy.note('operator of ${type}'); end $$;
        create operator other.${operator} (leftarg = ${type}, rightarg = ${type},
          function = other.f_${n}_${operator.length}_${operator.charCodeAt(0)})`,
      );
    }
  }
  const columns =
    "id integer primary key, k other.kind, p other.pair, ks other.kind[], o other.odd, ps other.pair[]";
  await owner.sql(`create table shop.odd (${columns}); grant all on shop.odd to ${writer.name}`);
  await other.sql(
    `create table other.odd_too (${columns}); grant all on other.odd_too to ${writer.name};
    create trigger t after insert or update or delete on other.odd_too for each row execute function hark.notify_data_change('c')`,
  );
  await owner.sql("select hark.watch('shop.odd', if_changed => '{*}')");
  await owner.sql(
    "select hark.watch('shop.odd', name => 'rows', level => 'row', payload => 'diff', key => '{k,p}')",
  );
  await sql(`grant create on database ${context.database} to ${writer.name}`);
  await writer.sql(`create schema trap;
    create function trap.to_jsonb(anyelement) returns jsonb language plpgsql as $$ begin perform spy.note('to_jsonb'); return '1'; end $$;
    create function trap.format(text) returns text language plpgsql as $$ begin perform spy.note('format'); return '1'; end $$;
    create function trap.equal(text, text) returns boolean language plpgsql as $$ begin return spy.note('trap ='); end $$;
    create operator trap.= (leftarg = text, rightarg = text, function = trap.equal);
    create temp table pg_attribute (attname text); create temp table hark_old (id integer);
    set search_path = trap, other, pg_temp, pg_catalog`);
  for (const table of ["shop.odd", "other.odd_too"]) {
    await writer.sql(
      `insert into ${table} values (1, 'a', '(1,a)', '{a}', 'x', array['(1,a)']::other.pair[])`,
    );
    await writer.sql(`update ${table} set k = 'b', p = '(2,b)'`);
    await writer.sql(`update ${table} set id = 2`);
    await writer.sql(`delete from ${table}`);
  }
  const [{ count }] = await sql("select count(*)::int from hark.log");
  assert.equal(count, 15);
  assert.deepEqual((await ran()).filter((it) => !it.endsWith(" as writer")), []);
  assert.deepEqual((await ran()).filter((it) => it.startsWith("cast")), []);
  const rows = await sql(
    "select payload #> '{new}' as row from hark.log where payload ->> 'action' = 'INSERT' and payload -> 'moved' is null",
  );
  const row = { id: 1, k: "a", p: "(1,a)", ks: ["a"], o: "x", ps: ["(1,a)"] };
  assert.deepEqual(rows, [{ row }, { row }, { row }]);
});
