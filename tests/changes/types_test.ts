/** Every value that PostgreSQL can store is published, in a form from which it can be had again. */

import assert from "node:assert/strict";
import { test, type TestContext } from "../harness/mod.ts";
import {
  builtIn,
  type Kind,
  ofExtensions,
  onlyJson,
  userMade,
  userMadeSetup,
} from "./_support/types.ts";

/** How a session may be set up that writes. */
const odd = `set extra_float_digits = -15; set bytea_output = escape; set datestyle = 'German, DMY';
  set intervalstyle = sql_standard; set timezone = 'Pacific/Kiritimati'; set xmloption = document;
  set quote_all_identifiers = on; set default_text_search_config = 'german';
  set standard_conforming_strings = off; set array_nulls = off`;

/** By whom a table's changes are published. */
const ways: Record<string, string> = {
  statements: "select hark.watch('changing')",
  rows: "select hark.watch('changing', level => 'row')",
  "hark.notify_data_change": `create trigger tell after insert or update or delete on changing
     for each row execute function hark.notify_data_change()`,
};

/**
 * Columns of each type, of a domain over it, and of arrays of both; rows with their values are inserted, updated and
 * deleted by a session that has everything set oddly.
 */
async function published({ sql, client }: TestContext, way: string, kinds: readonly Kind[]) {
  const writer = await client();
  await writer.query(odd);
  await sql("set xmloption = content");
  const columns = kinds.flatMap(({ type, same }, n) => {
    const its = [
      { name: `v${n}`, type, from: "v", same },
      { name: `d${n}`, type: `domain${n}`, from: "v", same },
    ];
    // In an array, JSON has no form of its own that leads back: jsonb comes as the value, json as its text.
    const alone = /\]$|words$|^jsonb?$|2vector$/.test(type);
    return alone ? its : [
      ...its,
      { name: `va${n}`, type: `${type}[]`, from: "array[v, null, v]", same: undefined },
      { name: `da${n}`, type: `domain${n}[]`, from: "array[array[v], array[v]]", same: undefined },
    ];
  });
  for (const [n, { type }] of kinds.entries()) await sql(`create domain domain${n} as ${type}`);
  await sql(
    `create table source (id integer, ${columns.map(({ name, type }) => `${name} ${type}`)});
    create table changing (like source, primary key (id))`,
  );
  const count = Math.max(...kinds.map(({ values }) => values.length)) + 1;
  await sql("insert into source select generate_series(1, $1::int)", [count]);
  for (const [n, { type, values }] of kinds.entries()) {
    const its = columns.filter(({ name }) => name.replace(/^\D+/, "") === `${n}`);
    const rows = values.map((value, id) =>
      `select ${id + 1}, (${value.includes("||") ? `(${value})::text` : value})::${type}`
    );
    await sql(
      `update source set ${its.map(({ name, from, type }) => `${name} = (${from})::${type}`)}
      from (${rows.join(" union all ")}) x (n, v) where id = n`,
    );
  }
  await sql(ways[way]!);
  await writer.query("insert into changing select * from source");
  await writer.query("update changing set id = id");
  await writer.query("delete from changing");
  const log = await sql(
    `select count(*)::int as count, count(*) filter (where payload -> 'changed' <> '[]')::int as changed from hark.log`,
  );
  assert.deepEqual(log, [{ count: 3 * count, changed: 0 }]);
  const differing = columns.map(({ name, same }) => {
    const [r, s] = ["r", "s"].map((row) => same ? same(`${row}.${name}`) : `${row}.${name}::text`);
    return `case when ${r} is distinct from ${s} then '${name}' end`;
  });
  const wrong = await sql(
    `select l.payload ->> 'action' as action, c as name, side.value -> c as published, to_jsonb(s) -> c as stored
     from hark.log l
     cross join jsonb_each(l.payload) side
     cross join lateral jsonb_populate_record(null::source, side.value) r
     join source s on s.id = (l.payload ->> 'id')::int
     cross join unnest(array_remove(array[${differing}], null)) c
     where side.key in ('old', 'new') order by c`,
  );
  assert.deepEqual(
    wrong.map(({ name, ...its }) => ({ type: columns.find((c) => c.name === name)!.type, ...its })),
    [],
  );
}

/** Each trigger of one's own makes its statements anew: fewer values. */
const fewer = (kinds: readonly Kind[]) =>
  kinds.map((kind) => ({ ...kind, values: kind.values.slice(0, 2) }));

for (const way of Object.keys(ways)) {
  const some = way === "hark.notify_data_change" ? fewer : (kinds: readonly Kind[]) => kinds;
  test(`each value of PostgreSQL's own types can be had again, published by ${way}`, async (context) => {
    await published(context, way, some(builtIn));
  });

  test(`so can those of types that users and extensions made, published by ${way}`, async (context) => {
    const { sql } = context;
    await sql(userMadeSetup);
    const kinds = [...userMade];
    for (const [extension, its] of Object.entries(ofExtensions)) {
      const there = await sql("select from pg_available_extensions where name = $1", [extension]);
      if (there.length === 0) continue;
      await sql(`create extension ${extension}`);
      kinds.push(...its);
    }
    await published(context, way, some(kinds));
  });
}

test("JSON that jsonb cannot hold is published as its text, and no write fails", async (context) => {
  const { sql } = context;
  for (const [way, publish] of Object.entries(ways)) {
    await sql("drop table if exists changing; truncate hark.log");
    await sql("create table changing (id integer primary key, v json)");
    await sql(publish);
    for (const [n, value] of onlyJson.entries()) {
      await sql(`insert into changing select ${n}, (${value})::json`);
    }
    await sql(`update changing set v = '1'`);
    const rows = await sql(
      `select count(*)::int as count from hark.log where payload ->> 'action' = 'INSERT'
       and jsonb_typeof(payload #> '{new,v}') = 'string'`,
    );
    assert.deepEqual(rows, [{ count: onlyJson.length }], way);
    const [{ text }] = await sql(
      `select payload #>> '{new,v}' as text from hark.log where key = '1' limit 1`,
    );
    assert.equal(text, String.raw`{"lone": "\ud83d", "x": 1}`);
  }
});

test("values have the same form whichever session writes, as JSON does it", async ({ sql, client }) => {
  await sql(`create type mood as enum ('ok');
    create table t (id integer primary key, f float8, d date, at timestamptz, b bytea, i interval, one "char", j json,
      m mood, ms mood[], r int4range, nothing text, list integer[], "Money" numeric, bits bit(3)[])`);
  await sql("select hark.watch('t')");
  const writer = await client();
  await writer.query(odd);
  await writer.query(
    String
      .raw`insert into t values (1, 0.1, '31.12.2024', '1.5.2024 10:00:00+14', decode('ff', 'hex'), 'P1DT1S', chr(65)::"char",
      '{"b": 1,  "a": "\u00e9"}', 'ok', array['ok', null]::mood[], '[1,3)', null, '[5:6]={1,2}', 1.10, '{101}')`,
  );
  const [{ payload }] = await sql("select payload #> '{new}' as payload from hark.log");
  assert.deepEqual(payload, {
    id: 1,
    f: 0.1,
    d: "2024-12-31",
    at: "2024-04-30T20:00:00+00:00",
    b: "\\xff",
    i: "1 day 00:00:01",
    one: "A",
    j: { a: "é", b: 1 },
    m: "ok",
    ms: ["ok", null],
    r: "[1,3)",
    nothing: null,
    list: [1, 2],
    Money: 1.1,
    bits: ["101"],
  });
});

test('half a character, which "char" can hold, is published as its octal number', async ({ sql }) => {
  await sql(`create table t (id integer primary key, c "char", cs "char"[])`);
  await sql("select hark.watch('t')");
  await sql(
    `create trigger again after insert on t for each row execute function hark.notify_data_change('own')`,
  );
  await sql(
    `insert into t select n, (n - 256)::"char", array[(n - 256)::"char"] from generate_series(128, 255) n`,
  );
  await sql(`insert into t select n, n::"char", array[n::"char"] from generate_series(0, 127) n`);
  const rows = await sql(
    `select distinct l.channel, payload #> '{new,c}' as c, payload #> '{new,cs}' as cs from hark.log l
     where key in ('200', '65') order by 1, 2`,
  );
  assert.deepEqual(rows.map(({ c }) => c), ["A", "\\310", "A", "\\310"]);
});
