import assert from "node:assert/strict";
import { schemaVersion } from "../../src/schema/version.ts";
import { test } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { jsonOutput, output, refused } from "./_support/hark.ts";

test("init installs the schema, and says so once", { schema: false }, async ({ url }) => {
  assert.match(
    await output(["init"], { url }),
    /^schema "hark" is installed: version \d+\.\d+\.\d+\nnothing is ever removed .*\n$/,
  );
  assert.match(await output(["init"], { url }), /up to date/);
  assert.deepEqual(await jsonOutput(["init"], { url }), {
    from: schemaVersion,
    to: schemaVersion,
    changed: false,
  });
});

test("init of a role that may only publish says that nothing is to do", async (context) => {
  const { url } = await role(context);
  await context.sql(`select hark.grant_publish('${new URL(url).username}')`);
  assert.match(await output(["init"], { url }), /^schema "hark" is up to date: version \S+\n$/);
});

test("init takes the database from an option too", { schema: false }, async ({ url }) => {
  const { from, to, changed } = await jsonOutput(["init", "--database-url", url]);
  assert.deepEqual([from, to, changed], [null, schemaVersion, true]);
});

test("sql prints what psql can install", { schema: false }, async ({ client, url }) => {
  const sql = await output(["sql"]);
  await (await client()).query(sql);
  assert.match(await output(["notify", "orders"], { url }), /^orders #1\n$/);
});

test("uninstall says what would be lost, and removes it when told to", async ({ url, sql }) => {
  await sql("select hark.notify('orders'), hark.notify('orders')");
  await sql("select hark.register('billing', array['orders'])");
  await refused(["uninstall"], 2, /2 notifications and 1 consumer[^]*--yes/, { url });
  assert.equal((await sql("select count(*)::int as n from hark.log"))[0].n, 2);
  assert.match(await output(["uninstall", "--yes"], { url }), /is removed, with 2 notifications/);
  assert.deepEqual(await sql("select 1 from pg_namespace where nspname = 'hark'"), []);
  assert.equal((await jsonOutput(["uninstall", "--yes"], { url })).removed, false);
});

test('a schema "hark" of another program is left alone, and said', { schema: false }, async (c) => {
  const { url, client } = c;
  await (await client()).query("create schema hark");
  for (const args of [["init"], ["status"], ["uninstall"], ["uninstall", "--yes"], ["tail"]]) {
    await refused(args, 1, /that Hark did not create\. Rename or drop it/, { url });
  }
});
