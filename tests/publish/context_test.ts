import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";

const headers = "select headers from hark.log order by id";

test("hark.context, an object as JSON text, becomes part of the headers; those that are given go over it", async ({ client, sql }) => {
  const writer = await client();
  await writer.query(`set hark.context = '{"who": "ada", "trace": 1}'`);
  await writer.query(`select hark.notify('c'), hark.notify('c', '1', null, '{"trace": 2}')`);
  await writer.query(
    `select hark.notify_many('[{"channel": "c"}, {"channel": "c", "headers": {"who": "bob"}}]')`,
  );
  await writer.query("select hark.notify_at('c', deliver_at => '2020-01-01')");
  await writer.query("reset hark.context");
  await writer.query("select hark.notify('c')");
  await sql("select hark.deliver_due()");
  assert.deepEqual((await sql(headers)).map((row) => row.headers), [
    { who: "ada", trace: 1 },
    { who: "ada", trace: 2 },
    { who: "ada", trace: 1 },
    { who: "bob", trace: 1 },
    null,
    { who: "ada", trace: 1 },
  ]);
});

test("a context that is no object is left out with a warning, and fails nothing", async ({ client, sql }) => {
  const writer = await client();
  const warnings: string[] = [];
  writer.on("notice", ({ message }) => warnings.push(message ?? ""));
  for (const wrong of ["[1]", "nonsense"]) {
    await writer.query("select set_config('hark.context', $1, false)", [wrong]);
    await writer.query("select hark.notify('c')");
    await writer.query(`select hark.notify_many('[{"channel": "c", "headers": {"a": 1}}]')`);
  }
  assert.deepEqual((await sql(headers)).map((row) => row.headers ?? {}), [{}, { a: 1 }, {}, {
    a: 1,
  }]);
  assert.equal(warnings.length, 4);
  assert.match(warnings[0]!, /hark.context is not a JSON object/);
});
