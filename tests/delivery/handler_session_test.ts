/** What a transactional handler sets in its session. */

import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { PGlite } from "npm:@electric-sql/pglite@0.5.16";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  migrate,
  notify,
  type Queryable,
} from "../../mod.ts";
import { role } from "../schema/_support/role.ts";
import { test, type TestContext } from "../harness/mod.ts";

/** Handles each payload, an SQL text, in one transaction after the other on one session. */
async function handleEach(
  db: Queryable,
  statements: readonly (string | ((tx: Queryable) => Promise<void>))[],
  options: ConsumerOptions = {},
): Promise<void> {
  for (const n of statements.keys()) await notify(db, "c", n);
  await new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    maxAttempts: 1,
    async handle({ payload }, { tx }) {
      const what = statements[payload]!;
      if (typeof what === "string") await tx!.query(what);
      else await what(tx!);
    },
    ...options,
  }).drain();
}

/** Asserts that no notification was given up. */
async function noneDead({ sql }: TestContext): Promise<void> {
  assert.deepEqual(await sql("select id, error from hark.dead"), []);
}

for (const local of ["local ", ""]) {
  test(`a transactional handler may set ${local}role, to one without rights in Hark`, async (context) => {
    const { name } = await role(context);
    const { sql, url, use } = context;
    await sql(`create table mine (who text); grant insert on mine to ${name}`);
    const [{ owner }] = await sql("select current_user as owner");
    const insert = "insert into mine values (current_user)";
    await handleEach(use(await connect(url)), [
      `set ${local}role ${name}`,
      insert,
      async (tx) => {
        await tx.query(`set ${local}role ${name}`);
        await tx.query(insert);
      },
      `set ${local}session authorization ${name}`,
      insert,
    ]);
    await noneDead(context);
    assert.deepEqual((await sql("select who from mine")).map(({ who }) => who), [
      owner,
      name,
      owner,
    ]);
  });
}

/** A user's own pool, which runs transactions itself. */
function transacting({ url, use }: TestContext): Queryable {
  const pool = new pg.Pool({ connectionString: url, max: 3 });
  use({ [Symbol.asyncDispose]: () => pool.end() });
  return Object.assign({ query: (text: string, values?: unknown[]) => pool.query(text, values) }, {
    async transaction(work: (tx: Queryable) => Promise<unknown>) {
      const client = await pool.connect();
      try {
        await client.query("begin");
        await work(client);
        await client.query("commit");
      } finally {
        client.release();
      }
    },
  });
}

/** Notes who runs it at the end of a transaction. */
const deferred = `
  create table mine (n int);
  create table who (name text);
  create function note() returns trigger language plpgsql as 'begin insert into who values (current_user); return null; end';
  create constraint trigger noted after insert on mine deferrable initially deferred for each row execute function note();`;

for (const driver of ["connect()", "a driver with transaction()"]) {
  test(`deferred triggers run as the role that the handler has set, not as the worker: ${driver}`, async (context) => {
    const { name } = await role(context);
    const { sql, url, use } = context;
    await sql(`${deferred} grant insert on mine, who to ${name}`);
    const db = driver === "connect()" ? use(await connect(url)) : transacting(context);
    const sets = driver === "connect()"
      ? ["set role", "set local role", "set session authorization"]
      : ["set role", "set local role"];
    await handleEach(
      db,
      sets.map((set) => async (tx) => {
        await tx.query(`${set} ${name}`);
        await tx.query("insert into mine values (1)");
      }),
    );
    await noneDead(context);
    assert.deepEqual(await sql("select distinct name from who"), [{ name }]);
  });
}

test("what a transactional handler leaves in its session reaches no later handler", async (context) => {
  const { sql, url, use, database } = context;
  await sql(`alter database ${database} set idle_session_timeout = '1h'`);
  const db = use(await connect(url));
  const seen: { idle: string }[] = [];
  const look = async (tx: Queryable) => {
    const { rows: [row] } = await tx.query(
      `select current_setting('search_path') as path, current_setting('timezone') as zone,
        coalesce(current_setting('my.own', true), '') as own, current_setting('statement_timeout') as timeout,
        current_setting('idle_session_timeout') as idle,
        to_regclass('pg_temp.leftover') is not null as temporary,
        (select count(*)::int from pg_prepared_statements) as prepared,
        (select count(*)::int from pg_cursors where name <> '') as cursors,
        (select count(*)::int from pg_listening_channels()) as listening,
        (select count(*)::int from pg_locks l where l.locktype = 'advisory' and l.pid = pg_backend_pid()) as locks`,
    );
    seen.push(row);
  };
  await handleEach(db, [
    look,
    async (tx) => {
      for (
        const statement of [
          "set search_path = nowhere",
          "set timezone = 'Asia/Kathmandu'",
          "set my.own = 'x'",
          "set statement_timeout = '20s'",
          "create temp table leftover (n int)",
          "prepare leftover as select 1",
          "declare leftover cursor with hold for select 1",
          "listen leftover",
          "select pg_advisory_lock(1)",
        ]
      ) await tx.query(statement);
    },
    look,
    (tx) => tx.query("set search_path = nowhere").then(() => Promise.reject(new Error("failed"))),
    look,
  ]);
  assert.deepEqual(await sql("select error from hark.dead"), [{ error: "failed" }]);
  assert.equal(seen.length, 3);
  assert.equal(seen[0]!.idle, "0");
  assert.deepEqual(seen[1], seen[0]);
  assert.deepEqual(seen[2], seen[0]);
});

test("what a transactional handler sets does not keep its own transaction from committing", async (context) => {
  const { sql, url, use } = context;
  await sql(
    "create schema traps; create function traps.finish() returns int language sql as 'select 1'",
  );
  await handleEach(use(await connect(url)), [
    "set search_path = traps",
    "set standard_conforming_strings = off",
    "set array_nulls = off",
    "set local lock_timeout = '1ms'",
    "set row_security = off",
    "set datestyle = 'German'",
    "set client_encoding = 'LATIN1'",
    "set plpgsql.extra_errors = 'all'",
  ], { id: "日本 'quoted' \\ $$" });
  await noneDead(context);
});

test("on PGlite a handler may set a role too, and the session keeps its own", async () => {
  await using db = await PGlite.create();
  await migrate(db);
  await db.exec("create role other; create table mine (who text); grant insert on mine to other");
  const insert = "insert into mine values (current_user)";
  await handleEach(db, [
    async (tx) => {
      await tx.query("set role other");
      await tx.query(insert);
    },
    async (tx) => {
      await tx.query("set local role other");
      await tx.query(insert);
    },
    insert,
  ]);
  const { rows } = await db.query<{ who: string }>("select who from mine");
  assert.deepEqual(rows.map(({ who }) => who), ["other", "other", "postgres"]);
});
