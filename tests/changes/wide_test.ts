/** No row is too wide, and no key too long: the write succeeds, and what is left out is said. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "../harness/mod.ts";

const MB = 1024 * 1024;
const last =
  `select l.key, l.payload - 'metadata' - 'schema' - 'table' as payload, pg_column_size(l.payload) as stored,
    octet_length((l.payload -> 'new' ->> 'v')) as bytes
  from hark.log l order by l.id desc limit 1`;

test("values up to max_bytes are published whole, above it only the key, marked truncated", async ({ sql }) => {
  await sql("create table t (id integer primary key, v text)");
  await sql("select hark.watch('t')");
  for (const size of [MB, 7 * MB, 16 * MB - 1000]) {
    await sql("insert into t select $1::int, repeat('x', $1::int)", [size]);
    const [{ bytes, payload }] = await sql(last);
    assert.equal(bytes, size);
    assert.equal(payload.truncated, undefined);
  }
  await sql("insert into t select 1, repeat('x', 17 * 1024 * 1024)");
  const truncated = { id: 1, truncated: true };
  assert.deepEqual((await sql(last))[0].payload, { action: "INSERT", ...truncated });
  // Old and new together.
  await sql("update t set id = id where id = $1", [7 * MB]);
  assert.equal((await sql(last))[0].bytes, 7 * MB);
  await sql("update t set id = id where id = $1", [16 * MB - 1000]);
  assert.deepEqual((await sql(last))[0].payload.truncated, true);
  await sql("update t set v = 'small' where id = 1");
  assert.deepEqual((await sql(last))[0].payload, { action: "UPDATE", ...truncated });
  await sql("update t set id = 2, v = repeat('y', 17 * 1024 * 1024) where id = 1");
  const moved = await sql(
    "select key, payload - 'metadata' - 'schema' - 'table' as payload from hark.log order by id desc limit 2",
  );
  assert.deepEqual(moved, [
    { key: "2", payload: { action: "INSERT", id: 2, truncated: true, moved: true } },
    { key: "1", payload: { action: "DELETE", id: 1, old: { id: 1, v: "small" }, moved: true } },
  ]);
  await sql("delete from t where id = 2");
  assert.deepEqual((await sql(last))[0].payload, { action: "DELETE", id: 2, truncated: true });
});

test("max_bytes is honoured, and counts a value and not how well it is compressed", async ({ sql }) => {
  await sql("create table t (id integer primary key, v text, j jsonb, a text[], b bytea)");
  await sql("select hark.watch('t', max_bytes => 1000000)");
  const truncated = async (columns: string, value: string) => {
    await sql(`delete from t; insert into t (id, ${columns}) select 1, ${value}`);
    return (await sql(last))[0].payload.truncated ?? false;
  };
  assert.equal(await truncated("v", "repeat('a', 900000)"), false);
  assert.equal(await truncated("v", "repeat('a', 1000001)"), true);
  assert.equal(await truncated("v", "repeat('é', 600000)"), true, "bytes, not characters");
  assert.equal(await truncated("j", "to_jsonb(repeat('a', 900000))"), false);
  assert.equal(await truncated("j", "to_jsonb(repeat('a', 1000001))"), true);
  assert.equal(await truncated("a", "array_fill('a'::text, array[20000])"), false);
  assert.equal(
    await truncated("a", "array_fill(null::text, array[500000])"),
    true,
    "nulls take room in JSON",
  );
  assert.equal(await truncated("b", "decode(repeat('00', 490000), 'hex')"), false);
  assert.equal(
    await truncated("b", "decode(repeat('00', 510000), 'hex')"),
    true,
    "hex doubles bytes",
  );
  await assert.rejects(sql("select hark.watch('t', max_bytes => 999)"), { code: "HK006" });
  await assert.rejects(sql("select hark.watch('t', max_bytes => 67108865)"), { code: "HK006" });
});

test("JSON whose binary form is several times as large does not fail the write", async ({ sql }) => {
  await sql("create table t (id integer primary key, v text, j json, n integer[])");
  await sql("select hark.watch('t', max_bytes => 67108864)");
  await sql("insert into t (id, j) select 1, ('[' || repeat('1,', 1000000) || '1]')::json");
  await sql("insert into t (id, v) select 2, repeat(E'\\x01', 10000000)");
  await sql("insert into t (id, n) select 3, array_fill(1, array[200000])");
  const log = await sql("select payload ? 'truncated' as truncated from hark.log");
  assert.deepEqual(log, new Array(3).fill({ truncated: false }));
});

for (
  const [what, type, value] of [
    ["text that compresses to nothing", "text", "repeat('x', 40 * 1024 * 1024)"],
    ["bytea", "bytea", "decode(repeat('00', 20 * 1024 * 1024), 'hex')"],
    [
      "jsonb",
      "jsonb",
      "(select jsonb_object_agg(n, repeat('x', 1024 * 1024)) from generate_series(1, 30) n)",
    ],
    ["an array of nulls", "integer[]", "array_fill(null::integer, array[10000000])"],
  ] as const
) {
  test(`tens of megabytes of ${what} can be written to a watched table`, async ({ sql }) => {
    await sql(`create table t (id integer primary key, v ${type})`);
    await sql("select hark.watch('t')");
    await sql(
      "create trigger tell after insert or update or delete on t for each row execute function hark.notify_data_change('own')",
    );
    await sql(`insert into t select 1, ${value}`);
    await sql("update t set id = 2");
    await sql("delete from t");
    const log = await sql(
      "select payload ->> 'action' as action, payload -> 'truncated' as truncated from hark.log",
    );
    assert.deepEqual(log.length, 8);
    for (const { truncated } of log) assert.equal(truncated, true);
  });
}

test("a key over 1,000 characters is its beginning and a digest", async ({ sql }) => {
  await sql("create table t (id text primary key); create table own (id text primary key)");
  await sql("select hark.watch('t')");
  await sql(
    "create trigger tell after insert or update or delete on own for each row execute function hark.notify_data_change()",
  );
  for (const table of ["t", "own"]) {
    const keys = async () =>
      (await sql(
        `select key from hark.log where channel = 'public.${table}' order by id desc limit 2`,
      )).map(({ key }) => key);
    await sql(`insert into ${table} values (repeat('é', 1000)), (repeat('é', 1001))`);
    const [long, short] = await keys();
    assert.equal(short, "é".repeat(1000));
    const digest = createHash("sha256").update("é".repeat(1001), "utf8").digest("hex");
    assert.equal(long, "é".repeat(900) + "#" + digest);
    await sql(`update ${table} set id = repeat('x', 1500) where id = repeat('é', 1001)`);
    assert.deepEqual((await keys())[1], long);
  }
});

test("columns of any size can be chosen as the key", async ({ sql }) => {
  await sql("create table t (a text, b text, n integer)");
  await sql("select hark.watch('t', key => '{a,b}')");
  await sql("select hark.watch('t', name => 'one', key => '{a}', payload => 'key')");
  await sql("insert into t select repeat('a', 2000000), repeat('b', 3000000), 1");
  await sql("insert into t select 'a', 'b', 2");
  await sql("update t set n = 3");
  await sql("update t set a = a || 'x'");
  const log = await sql(
    "select length(key) as length, payload ->> 'action' as action, payload -> 'id' as id from hark.log where (payload -> 'moved') is null",
  );
  assert.equal(log.length, 8);
  assert.deepEqual(log[0], { length: 965, action: "INSERT", id: null });
  assert.deepEqual(log.filter(({ id }) => id?.a === "a").length, 2);
  const moved = await sql(
    "select count(*)::int, count(distinct key)::int as keys from hark.log where payload ? 'moved'",
  );
  assert.deepEqual(moved, [{ count: 8, keys: 8 }]);
});

test("a table of 400 columns can be watched", async ({ sql }) => {
  const columns = Array.from({ length: 400 }, (_, n) => `c${n}`);
  await sql(
    `create table t (${
      columns.map((name, n) => `${name} ${n === 0 ? "integer primary key" : "integer"}`)
    })`,
  );
  await sql("select hark.watch('t')");
  await sql(`insert into t values (${columns.map((_, n) => n)})`);
  await sql("update t set c399 = 0");
  const [{ payload }] = await sql(last);
  assert.deepEqual(payload.changed, ["c399"]);
  assert.equal(Object.keys(payload.old).length, 400);
});
