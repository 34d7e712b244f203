/** What other tools get wrong about triggers, each as seen there. */

import assert from "node:assert/strict";
import { test, type TestContext } from "../harness/mod.ts";

const ways: Record<string, (table: string, channel?: string) => string> = {
  "hark.watch": (table, channel) =>
    `select hark.watch('${table}'${channel ? `, '${channel}'` : ""})`,
  "hark.notify_data_change": (table, channel) =>
    `create trigger tell after insert or update or delete on ${table}
     for each row execute function hark.notify_data_change(${channel ? `'${channel}'` : ""})`,
};

function fault(
  name: string,
  body: (context: TestContext, way: (table: string, channel?: string) => string) => Promise<void>,
) {
  for (const [what, way] of Object.entries(ways)) {
    test(`${name} (${what})`, (context) => body(context, way));
  }
}

const published = async ({ sql }: TestContext) =>
  await sql("select channel, key, payload from hark.log order by id");

fault(
  "5,000 times é, or a row of any size over 8,000 bytes, is written and published",
  async (context, way) => {
    const { sql } = context;
    await sql("create table t (id integer primary key, v text)");
    await sql(way("t"));
    for (const [n, size] of [3999, 4000, 5000, 8000, 100_000].entries()) {
      await sql("insert into t values ($1, repeat('é', $2))", [n, size]);
      const rows = await published(context);
      assert.equal(rows[n].payload.new.v, "é".repeat(size));
    }
  },
);

fault("quotes and SQL in a row are its content and nothing else", async (context, way) => {
  const { sql } = context;
  await sql("create table t (id text primary key, v text)");
  await sql(way("t"));
  const values = [
    "it's",
    `"`,
    `'); drop table t; --`,
    "$$",
    "\\",
    "%s %1$s",
    "\u0001",
    "{}",
    "🙂",
    "",
  ];
  for (const value of values) await sql("insert into t values ($1, $1)", [value]);
  await sql("update t set v = v || v");
  const rows = await published(context);
  assert.deepEqual(rows.slice(0, values.length).map(({ key }) => key), values);
  assert.deepEqual(
    rows.slice(values.length).map(({ payload }) => payload.new.v).sort(),
    values.map((v) => v + v).sort(),
  );
});

fault(
  "a channel in capitals, with a hyphen, a dot, a space or a quote is that channel",
  async (context, way) => {
    const { sql } = context;
    const channels = [
      "USERS",
      "users-changes",
      "a.b.c",
      "a b",
      'a"b',
      "é",
      "select",
      "x".repeat(200),
    ];
    for (const [n, channel] of channels.entries()) {
      await sql(`create table t${n} (id integer primary key)`);
      await sql(way(`t${n}`, channel));
      await sql(`insert into t${n} values (1)`);
    }
    assert.deepEqual((await published(context)).map(({ channel }) => channel), channels);
  },
);

fault("who listens is told of changes on a channel of any name", async (context, way) => {
  const { sql, client } = context;
  const listener = await client();
  const heard: (string | undefined)[] = [];
  listener.on("notification", ({ payload }) => heard.push(payload));
  await listener.query("listen hark");
  await listener.query(
    "select hark.sleep(gen_random_uuid(), array['Users-Changes'], null, 600000)",
  ); // as readers do
  await sql("create table t (id integer primary key)");
  await sql(way("t", "Users-Changes"));
  await sql("insert into t values (1)");
  // What was sent before an answer has arrived by then.
  await listener.query("select");
  assert.deepEqual(heard, ["Users-Changes"]);
});

fault("tables of another schema, of odd names, and without an id", async (context, way) => {
  const { sql } = context;
  await sql(
    `create schema "My Shop"; create table "My Shop"."Big ""T""" ("User-Id" integer primary key, v text);
    create table "My Shop".plain (v text)`,
  );
  await sql(way('"My Shop"."Big ""T"""'));
  await sql(way('"My Shop".plain'));
  await sql(
    `insert into "My Shop"."Big ""T""" values (7, 'x'); insert into "My Shop".plain values ('y')`,
  );
  const rows = (await published(context)).map((
    { channel, key, payload: { schema, table, id } },
  ) => ({ channel, key, schema, table, id }));
  assert.deepEqual(rows, [
    { channel: 'My Shop.Big "T"', key: "7", schema: "My Shop", table: 'Big "T"', id: 7 },
    { channel: "My Shop.plain", key: null, schema: "My Shop", table: "plain", id: null },
  ]);
});

fault(
  "a DELETE deletes, an UPDATE updates, and both say how many rows",
  async ({ admin, sql }, way) => {
    await sql("create table t (id integer primary key, v integer)");
    await sql(way("t"));
    const count = async (text: string) =>
      (await admin.query(text) as unknown as { rowCount: number }).rowCount;
    assert.equal(await count("insert into t select n, 0 from generate_series(1, 5) n"), 5);
    assert.equal(await count("update t set v = 1 where id > 2"), 3);
    assert.equal(await count("delete from t where id < 5"), 4);
    assert.deepEqual(await sql("select * from t"), [{ id: 5, v: 1 }]);
  },
);

fault(
  "writes work whatever the search_path, and from a session that has seen none of it",
  async (context, way) => {
    const { sql, client } = context;
    await sql("create schema app; create table app.t (id integer primary key)");
    await sql(way("app.t"));
    const writer = await client();
    for (const path of ["''", "app", "pg_catalog", "nowhere"]) {
      await writer.query(`set search_path = ${path}`);
      await writer.query("insert into app.t select coalesce(max(id), 0) + 1 from app.t");
    }
    assert.equal((await published(context)).length, 4);
  },
);

fault("what is rolled back is not published, also to a savepoint", async (context, way) => {
  const { sql, client } = context;
  await sql("create table t (id integer primary key)");
  await sql(way("t"));
  const writer = await client();
  await writer.query(
    "begin; insert into t values (1); savepoint s; insert into t values (2); rollback to s; commit",
  );
  await writer.query("begin; insert into t values (3); rollback");
  assert.deepEqual((await published(context)).map(({ key }) => key), ["1"]);
});

fault(
  "where waking is off, or the server's queue of it is not to be used, changes are published all the same",
  async (context, way) => {
    const { sql, client } = context;
    await sql("create table t (id integer primary key)");
    await sql(way("t"));
    const writer = await client();
    await writer.query("set hark.wake = off");
    await writer.query("insert into t values (1)");
    assert.equal((await published(context)).length, 1);
    const [{ max }] = await sql("select current_setting('max_prepared_transactions')::int as max");
    const prepare = writer.query(
      `begin; insert into t values (2); prepare transaction '${context.database}'`,
    );
    if (max === 0) {
      await assert.rejects(prepare, { code: "55000" }, "this server allows none");
      return;
    }
    await prepare;
    await writer.query(`commit prepared '${context.database}'`);
    assert.equal((await published(context)).length, 2);
  },
);
