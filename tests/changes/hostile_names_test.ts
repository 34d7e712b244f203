/** Columns of any name, with anything in them. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";

const names = [
  `"; drop table t; --`,
  `'; drop table t; --`,
  "new",
  "old",
  "hark",
  "hark_n",
  "hark_n_",
  "hark_one",
  "hark_old",
  "head",
  "headers",
  "tg_op",
  "tg_relid",
  "$hark$",
  "$body$",
  "%1$s",
  "%I",
  "/*page*/",
  "--",
  "$1",
  "$3",
  "into",
  "select",
  "statement",
  "wrote",
  "made",
  "found",
  "r",
  "x\\",
  "Ünï 😀",
  " ",
  "a.b",
  "payload",
  "channel",
  "key",
  "ctid_",
  "%1$L",
  "partition",
  "last",
  "after",
  "batch",
];

test("columns may be called anything, and hold anything", async (context) => {
  const { sql } = context;
  const quoted = names.map((name) => `"${name.replaceAll('"', '""')}"`);
  await sql(
    `create table t (${quoted.map((name) => `${name} text`)}, primary key (${
      quoted.slice(0, 12)
    }))`,
  );
  const values = names.map((name) => `${name}'"\\`);
  const holders = quoted.map((_, n) => `$${n + 1}`);
  await sql(`insert into t values (${holders})`, names);
  const ways = [
    "select hark.watch('t', snapshot => true)",
    "select hark.watch('t', name => 'rows', level => 'row', if_changed => $${*}$$, payload => 'diff')",
    "select hark.watch('t', name => 'new', payload => 'new', key => $1, include => $1, condition => $2)",
    `create trigger zz after insert or update or delete on t for each row execute function hark.notify_data_change('own')`,
  ];
  const condition = quoted.map((name) => `coalesce(old.${name}, new.${name}) is not null`).join(
    " and ",
  );
  for (const way of ways) await sql(way, way.includes("$2") ? [names, condition] : undefined);
  await sql("select * from hark.snapshot('t')");
  const count = async () => (await sql("select count(*)::int from hark.log"))[0].count;
  assert.equal(await count(), 1);
  await sql("delete from t");
  await sql(`insert into t values (${holders})`, names);
  assert.equal(await count(), 9);
  await sql(`update t set (${quoted}) = row (${holders})`, values);
  assert.equal(await count(), 17);
  const rows = await sql(
    "select payload -> 'new' as row from hark.log where payload -> 'moved' is not null and payload ? 'new'",
  );
  assert.equal(rows.length, 4);
  for (const { row } of rows) {
    assert.deepEqual(row, Object.fromEntries(names.map((name, n) => [name, values[n]])));
  }
  await sql("alter table t add column later integer");
  await sql(`update t set ${quoted[13]} = 'other'`);
  assert.equal(await count(), 22);
  assert.deepEqual(await sql("select drift from hark.watches() where name = 'x'"), []);
});
