/** Who wrote, for whom, and in which request: what travels with the changes of a table. */

import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { test, type TestContext } from "../harness/mod.ts";
import { people } from "./_support/rights.ts";

const table = "create table t (id integer primary key)";

async function headers({ sql }: TestContext): Promise<unknown[]> {
  return (await sql("select headers from hark.log order by id")).map((row) => row.headers);
}

test("context is the transaction's or the session's, and goes over the watch's headers", async (context) => {
  const { sql, client } = context;
  await sql(table);
  await sql(`select hark.watch('t', headers => '{"from": "shop", "tenant": 0}')`);
  await sql("create table own (id integer)");
  await sql(
    "create trigger t after insert on own for each row execute function hark.notify_data_change()",
  );
  const session = await client();
  await session.query(
    `begin; select hark.set_context('{"tenant": 7}'); insert into t values (1); commit`,
  );
  await session.query("insert into t values (2)");
  await session.query(`select hark.set_context('{"request": "r1"}', true)`);
  await session.query("insert into t values (3)");
  await session.query(
    `begin; select hark.set_context('{"tenant": 8}'); insert into t values (4); commit`,
  );
  await session.query("insert into t values (5)");
  await session.query("insert into own values (5)");
  await session.query("select hark.set_context(null, true)");
  await session.query("insert into t values (6)");
  await session.query(
    "begin; set local hark.context = '{\"tenant\": 9}'; insert into t values (7); rollback",
  );
  assert.deepEqual(await headers(context), [
    { from: "shop", tenant: 7 },
    { from: "shop", tenant: 0 },
    { from: "shop", tenant: 0, request: "r1" },
    { from: "shop", tenant: 8 },
    { from: "shop", tenant: 0, request: "r1" },
    { request: "r1" },
    { from: "shop", tenant: 0 },
  ]);
  await assert.rejects(session.query("select hark.set_context('[1]')"), { code: "HK006" });
});

test("garbage in hark.context fails no write: it is left out, with a warning", async (context) => {
  const { sql, client } = context;
  await sql(table);
  await sql(`select hark.watch('t', headers => '{"from": "shop"}')`);
  await sql(
    "create trigger own after insert on t for each row execute function hark.notify_data_change('own')",
  );
  const session = await client();
  const warnings: string[] = [];
  session.on("notice", ({ message }) => warnings.push(message!));
  const garbage = [
    "x",
    "[]",
    "1",
    "null",
    '"a"',
    "{",
    '{"a": "\\u0000"}',
    '{"a": 1e999999}',
    "'; drop table t; --",
    "[".repeat(50_000),
  ];
  for (const [n, text] of garbage.entries()) {
    await session.query("select set_config('hark.context', $1, false)", [text]);
    await session.query("insert into t values ($1)", [n]);
  }
  const seen = await headers(context);
  assert.deepEqual(seen.filter((it) => it !== null), garbage.map(() => ({ from: "shop" })));
  assert.equal(seen.length, 2 * garbage.length);
  assert.equal(warnings.length, 2 * garbage.length);
  assert.match(warnings[0]!, /^hark\.context is not a JSON object and is ignored: x$/);
});

test("a consumer's filter on headers sees the context", async ({ url, sql, client, use }) => {
  await sql(table);
  await sql("select hark.watch('t')");
  const session = await client();
  for (const tenant of [1, 2, 1]) {
    await session.query(`begin; select hark.set_context('{"tenant": ${tenant}}');
      insert into t select coalesce(max(id), 0) + 1 from t; commit`);
  }
  const seen: unknown[] = [];
  await new Consumer(use(await connect(url)), {
    id: "of tenant 1",
    channels: ["public.t"],
    from: "beginning",
    filter: { headers: { tenant: 1 } },
    handle: ({ key }) => void seen.push(key),
  }).drain();
  assert.deepEqual(seen, ["1", "3"]);
});

test(
  "who wrote is told under SET ROLE and within another's function",
  { schema: false },
  async (context) => {
    const { sql } = context;
    const { owner, writer, other } = await people(context);
    await owner.sql("select hark.watch('shop.orders')");
    await sql(
      `grant ${other.name} to ${writer.name}; grant create on schema shop to ${other.name}`,
    );
    await other.sql(`create function shop.buy(integer) returns void language sql security definer
    as 'insert into shop.orders values ($1)'; grant execute on function shop.buy to ${writer.name}`);
    await writer.sql("insert into shop.orders values (1)");
    await writer.sql(`set role ${other.name}`);
    await writer.sql("insert into shop.orders values (2)");
    await writer.sql("reset role");
    await writer.sql("set application_name = 'till \"3\"'");
    await writer.sql("select shop.buy(3)");
    const [{ pid }] = await writer.sql("select pg_backend_pid() as pid");
    const [{ xid }] = await writer.sql("begin; select 1").then(() =>
      writer.sql("select pg_current_xact_id()::text as xid")
    );
    await writer.sql("insert into shop.orders values (4)");
    await writer.sql("commit");
    const log = await sql(
      "select payload -> 'metadata' as m from hark.log where channel = 'shop.orders' order by id",
    );
    const metadata = log.map(({ m }) => m);
    const user = writer.name;
    assert.deepEqual(metadata.map(({ user, role }) => ({ user, role })), [
      { user, role: user },
      { user, role: other.name },
      { user, role: user },
      { user, role: user },
    ]);
    assert.deepEqual(metadata[3], {
      user,
      role: user,
      application: 'till "3"',
      session: pid,
      transaction: xid,
    });
  },
);

test("without Hark's schema, watched tables stay writable", async ({ sql, client }) => {
  await sql(table);
  await sql("select hark.watch('t')");
  await sql(
    "create table rows (id integer primary key); select hark.watch('rows', level => 'row')",
  );
  await sql(
    "create trigger own after insert on rows for each row execute function hark.notify_data_change()",
  );
  const session = await client();
  await session.query("insert into t values (1); insert into rows values (1)");
  const warnings: string[] = [];
  session.on("notice", ({ message }) => warnings.push(message!));
  await sql("drop schema hark cascade");
  for (const name of ["t", "rows"]) {
    await session.query(`insert into ${name} values (2)`);
    await session.query(`update ${name} set id = id + 10`);
    await session.query(`delete from ${name} where id = 11`);
    await session.query(`truncate ${name}`);
  }
  assert.equal(warnings.length, 9);
  assert.equal(
    warnings[0],
    "Hark is not installed in this database: changes of public.t are not published",
  );
});
