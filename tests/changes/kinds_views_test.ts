/** Views and foreign tables: rows that are written to elsewhere. */

import assert from "node:assert/strict";
import { test, type TestContext } from "../harness/mod.ts";
import { drift, told, toldOf } from "./_support/kinds.ts";

const view = `create table base (id int primary key, v int);
  create view t as select id, v from base where v > 0;
  create function write() returns trigger language plpgsql as $$ begin
    if tg_op = 'INSERT' then insert into base values (new.id, new.v); return new; end if;
    if tg_op = 'UPDATE' then update base set v = new.v where id = old.id; return new; end if;
    delete from base where id = old.id; return old;
  end $$;
  create trigger write instead of insert or update or delete on t for each row execute function write();`;

test("what is written to a view with INSTEAD OF triggers is published, and is still written", async (on) => {
  await on.sql(`${view} select hark.watch('t', key => '{id}')`);
  await on.sql("insert into t values (1, 1), (2, 2); update t set v = 3 where id = 1");
  await on.sql("delete from t where id = 2");
  assert.deepEqual(await told(on), [
    'INSERT 1 {"id":1,"v":1}',
    'INSERT 2 {"id":2,"v":2}',
    'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":3}',
    'DELETE 2 {"id":2,"v":2}',
  ]);
  assert.deepEqual(await on.sql("select * from base"), [{ id: 1, v: 3 }]);
});

test("a view that has lost its own trigger refuses the write, rather than publish what was not written", async (on) => {
  await on.sql(`${view} select hark.watch('t'); drop trigger write on t`);
  await assert.rejects(on.sql("insert into t values (1, 1)"), /INSTEAD OF trigger of its own/);
  assert.deepEqual(await told(on), []);
  await on.sql("select hark.unwatch('t'); insert into t values (1, 1)");
  assert.deepEqual(await on.sql("select * from base"), [{ id: 1, v: 1 }]);
});

test("a trigger of a view that would write after it is published is refused, and drift where it comes later", async (on) => {
  await on.sql(`${view} alter trigger write on t rename to "~zwrite"`);
  await assert.rejects(on.sql("select hark.watch('t')"), { code: "HK006", message: /comes after/ });
  await on.sql(`alter trigger "~zwrite" on t rename to write; select hark.watch('t');
    alter trigger write on t rename to "~zwrite"`);
  assert.match((await drift(on)).join(), /trigger "~zwrite" of public.t fires after/);
});

/** Makes the test's database its own foreign server. */
async function loopback({ sql, url }: TestContext): Promise<boolean> {
  const [found] = await sql(
    "select from pg_available_extensions where name = 'postgres_fdw'",
  );
  if (found === undefined) {
    console.log("this server has no postgres_fdw");
    return false;
  }
  const { port, username, password } = new URL(url);
  await sql(`create extension postgres_fdw;
    create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${
    port || 5432
  }',
      dbname '${new URL(url).pathname.slice(1)}', keep_connections 'off');
    create user mapping for current_user server here options (user '${username}', password '${
    password || "none"
  }');
    create table far (id int primary key, v int);
    create foreign table t (id int, v int) server here options (table_name 'far')`);
  return true;
}

test("what is written by a foreign table is published", async (on) => {
  if (!await loopback(on)) return;
  await on.sql("select hark.watch('t', key => '{id}')");
  await on.sql("insert into t values (1, 1), (2, 2); update t set v = v + 1 where id = 1");
  await on.sql("delete from t where id = 2");
  assert.deepEqual(await told(on), [
    'INSERT 1 {"id":1,"v":1}',
    'INSERT 2 {"id":2,"v":2}',
    'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":2}',
    'DELETE 2 {"id":2,"v":2}',
  ]);
  await assert.rejects(
    on.sql("select hark.watch('t', name => 's', key => '{id}', snapshot => true)"),
    {
      code: "HK006",
    },
  );
});

test("a partition that is a foreign table is published with the table above", async (on) => {
  if (!await loopback(on)) return;
  await on.sql(`create table p (id int, v int) partition by range (id);
    create table p1 partition of p for values from (0) to (10);
    alter table p attach partition t for values from (10) to (20);
    select hark.watch('p', key => '{id}'); insert into p values (1, 1), (11, 2); update p set v = 9`);
  const changes = await toldOf(on);
  assert.deepEqual(
    changes.map(({ key, payload }) => `${payload.action} ${key} ${payload.partition}`),
    [
      "INSERT 1 p1",
      "INSERT 11 t",
      "UPDATE 1 p1",
      "UPDATE 11 t",
    ],
  );
});
