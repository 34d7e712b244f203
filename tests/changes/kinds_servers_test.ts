/** What takes servers of one's own: logical replication, prepared transactions, dump and restore. */

import assert from "node:assert/strict";
import { ownServer, test, until } from "../harness/mod.ts";
import { needsDump, shell } from "../windows/_support/shell.ts";
import { drift, told, toldOf } from "./_support/kinds.ts";

test("rows that come by logical replication are published where the watch says `replicated`", {
  schema: false,
}, async () => {
  const settings = { wal_level: "logical", max_prepared_transactions: "5" };
  await using source = await ownServer({ settings, schema: false });
  await using target = await ownServer({ settings });
  const table = "create table t (id int primary key, v int)";
  await source.sql(`${table}; create publication p for all tables`);
  await target.sql(`${table}; select hark.watch('t', replicated => true)`);
  await target.sql(`create subscription s connection '${source.url}' publication p`);
  await until(async () =>
    (await target.sql("select from pg_subscription_rel where srsubstate = 'r'")).length
  );
  await source.sql("insert into t values (1, 1), (2, 2); update t set v = 5 where id = 1");
  await source.sql("delete from t where id = 2");
  const changes: string[] = [];
  await until(async () => changes.push(...await told(target)) >= 4, { what: "the rows to come" });
  assert.deepEqual(changes, [
    'INSERT 1 {"id":1,"v":1}',
    'INSERT 2 {"id":2,"v":2}',
    'UPDATE 1 {"id":1,"v":1} > {"id":1,"v":5}',
    'DELETE 2 {"id":2,"v":2}',
  ]);
  await source.sql("truncate t");
  await until(async () => changes.push(...await told(target)) >= 5, {
    what: "the TRUNCATE to come",
  });
  assert.equal(changes[4], "TRUNCATE");
  await target.sql("drop subscription s");

  // Prepared transactions, on the same server to save a start.
  const client = await target.client();
  await client.query("select hark.sleep(gen_random_uuid(), array['public.t'], null, 600000)"); // a sleeper to wake
  await client.query("begin; insert into t values (7, 7)");
  await assert.rejects(client.query("prepare transaction 'woken'"), /NOTIFY/);
  await client.query(`begin; set local hark.wake = off; insert into t values (8, 8);
    prepare transaction 'quiet'`);
  assert.deepEqual(await told(target), []);
  await client.query("commit prepared 'quiet'");
  assert.deepEqual(await told(target), ['INSERT 8 {"id":8,"v":8}']);
});

const dumped = needsDump(
  "a dump restored elsewhere: watched tables still publish, and what was left out stays out",
);

Deno.test(dumped.name, { ignore: dumped.ignore }, async () => {
  await using source = await ownServer();
  await source.sql(`create table filler (id int); create type mood as enum ('good', 'bad');
    create table t (id int primary key, gone int, secret text, m mood, v int);
    alter table t drop column gone; insert into t values (1, 's', 'good', 1);
    create table p (id int primary key, v int, secret text) partition by range (id);
    create table p1 partition of p for values from (0) to (10);
    select hark.watch('t', exclude => '{secret}'), hark.watch('p', exclude => '{secret}')`);
  await source.sql("alter table p rename secret to hidden");
  await using target = await ownServer({ schema: false });
  // Other tables have the numbers that these had.
  await target.sql(
    "create table one (id int); create table two (id int); create table three (id int)",
  );
  const file = `${source.dataDir}/dump.sql`;
  await shell(source, `pg_dump -f ${file} "${source.url}" && chmod a+r ${file}`);
  await shell(source, `psql -q -v ON_ERROR_STOP=1 -f ${file} "${target.url}" > /dev/null`);
  await target.sql("delete from hark.log");
  await target.sql(`insert into t values (2, 'secret', 'bad', 2); update t set v = 3 where id = 1;
    insert into p values (1, 1, 'secret')`);
  const changes = await toldOf(target);
  assert.deepEqual(changes.map(({ payload }) => [payload.table, payload.action, payload.new]), [
    ["t", "INSERT", { id: 2, m: "bad", v: 2 }],
    ["t", "UPDATE", { id: 1, m: "good", v: 3 }],
    ["p", "INSERT", { id: 1, v: 1 }],
  ]);
  // The restored tables have other numbers: that is said, and watching again puts it right.
  const again = (await drift(target)).filter((one) => !/repair it/.test(one));
  assert.deepEqual(again, []);
  await target.sql(
    "select hark.watch('t', exclude => '{secret}'), hark.watch('p', exclude => '{hidden}')",
  );
  assert.deepEqual(await drift(target), []);
  await target.sql(
    "insert into t values (4, 'secret', null, null); insert into p values (2, 2, 'secret')",
  );
  assert.deepEqual(await told(target), ['INSERT 4 {"id":4}', 'INSERT 2 {"id":2,"v":2}']);
});
