/** Virtual generated columns, which PostgreSQL has since 18. */

import assert from "node:assert/strict";
import { connect, watch, type WatchOptions } from "../../mod.ts";
import { test, type TestContext } from "../harness/mod.ts";
import { drift, told, toldOf } from "./_support/kinds.ts";

/** Adds a test that runs where there are such columns. */
function testVirtual(name: string, body: (on: TestContext) => Promise<void>): void {
  test(name, async (on) => {
    const [{ version }] = await on.sql(
      "select current_setting('server_version_num')::int as version",
    );
    if (version < 180000) return console.log("no virtual columns before PostgreSQL 18");
    await body(on);
  });
}

const columns = "id int primary key, a int, v int generated always as (a * 2) virtual";

testVirtual(
  "a virtual generated column, which has no value in a trigger, is left out",
  async (on) => {
    await on.sql(`create table t (${columns}); select hark.watch('t', exclude => '{v}')`);
    await on.sql("insert into t values (1, 2)");
    assert.deepEqual(await told(on), ['INSERT 1 {"a":2,"id":1}']);
    await on.sql("select hark.watch('t'); update t set a = 3");
    assert.deepEqual(await told(on), ['UPDATE 1 {"a":2,"id":1} > {"a":3,"id":1}']);
    assert.deepEqual(await drift(on), []);
  },
);

const refused: WatchOptions[] = [
  { key: "v" },
  { key: ["id", "v"] },
  { include: ["id", "v"] },
  { ifChanged: ["v"] },
  { when: "new.v > 3" },
  { when: "(old).v is null" },
  { when: "(select r.v from (select new.*) r) > 3" },
];

testVirtual(
  "a watch that names a virtual generated column is refused with what to do",
  async (on) => {
    await on.sql(`create table t (${columns})`);
    const db = on.use(await connect(on.url));
    for (const options of refused) {
      for (const level of ["statement", "row"] as const) {
        await assert.rejects(watch(db, "t", { ...options, level }), {
          code: "BAD_OPTION",
          message: /virtual generated column.*no value in a trigger.*STORED/s,
        }, JSON.stringify(options));
      }
    }
  },
);

for (const level of ["statement", "row"]) {
  testVirtual(
    `a condition on whole rows of a table with a virtual column publishes, by ${level} triggers`,
    async (on) => {
      await on.sql(`create table t (${columns})`);
      for (
        const condition of [
          "new is distinct from old",
          "row(new.*) is distinct from row(old.*)",
          // The column's name, and not the column.
          "'v' = (select 'v' as v)",
        ]
      ) {
        await on.sql("select hark.watch('t', condition => $1, level => $2)", [condition, level]);
        assert.deepEqual(await drift(on), []);
        await on.sql("insert into t values (1, 2); update t set a = 3; delete from t");
        assert.deepEqual(await told(on), [
          'INSERT 1 {"a":2,"id":1}',
          'UPDATE 1 {"a":2,"id":1} > {"a":3,"id":1}',
          'DELETE 1 {"a":3,"id":1}',
        ], condition);
      }
    },
  );

  testVirtual(
    `a watched column that becomes a virtual one fails no write and loses no change, by ${level} triggers`,
    async (on) => {
      await on.sql("create table t (id int primary key, a int, v int)");
      const by = [
        "name => 'key', key => '{v}'",
        "name => 'if_changed', if_changed => '{v}'",
        "name => 'condition', condition => 'new.v > 9'",
      ];
      for (const list of by) await on.sql(`select hark.watch('t', level => '${level}', ${list})`);
      await on.sql("alter table t drop v");
      await on.sql("alter table t add v int generated always as (a * 2) virtual");
      const writes = await on.client();
      await writes.query("insert into t values (1, 2)");
      await writes.query("update t set a = 3");
      assert.deepEqual((await toldOf(on)).map(({ key, payload }) => [payload.action, key]), [
        ...["1", "1", null].map((key) => ["INSERT", key]),
        ...["1", "1", null].map((key) => ["UPDATE", key]),
      ]);
      const found = (await drift(on)).join("\n");
      for (const list of ["key", "if_changed"]) {
        assert.match(found, new RegExp(`column v, which ${list} names, is a virtual generated`));
      }
      assert.match(found, /its condition names v, which is .* a virtual generated column now/);
      await assert.rejects(on.sql("select hark.rewatch('t', 'key')"), /gone or virtual now/);
      await assert.rejects(on.sql("select hark.rewatch('t', 'condition')"), /cannot be used/);
    },
  );
}
