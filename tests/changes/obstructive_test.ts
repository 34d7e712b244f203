/** What a role makes of its own watches stops no upgrade and no uninstall. */

import assert from "node:assert/strict";
import { connect, migrate, uninstall } from "../../mod.ts";
import { test, within } from "../harness/mod.ts";
import { people } from "./_support/rights.ts";

const obstacles: Record<string, string> = {
  "a function of another type in the place of the watch's": `
    drop function shop.FUNCTION() cascade;
    create function shop.FUNCTION() returns text language sql as 'select null::text'`,
  "a view that needs such a function": `
    drop function shop.FUNCTION() cascade;
    create function shop.FUNCTION() returns text language sql as 'select null::text';
    create view shop.needy as select shop.FUNCTION()`,
  "a definition that makes no sense": `
    update hark.watches set definition = definition || '{"key": ["nope"], "level": "x", "mode": "y"}'`,
};

for (const [what, statements] of Object.entries(obstacles)) {
  test(`${what} stops no upgrade and no uninstall`, { schema: false }, async (context) => {
    const { owner } = await people(context);
    await owner.sql("select hark.watch('shop.orders')");
    const [{ name }] = await context.sql("select function_name as name from hark.watches");
    for (const one of statements.replaceAll("FUNCTION", name).split(";")) await owner.sql(one);
    const db = context.use(await connect(context.url));
    await context.sql("update hark.schema_version set functions = 'of an earlier build'");
    assert.equal((await within(migrate(db))).changed, true);
    await uninstall(db);
    await context.sql("insert into shop.orders values (1)");
  });
}

test(
  "an open transaction that changes a trigger function stops no upgrade",
  { schema: false },
  async (context) => {
    const { owner } = await people(context);
    await owner.sql("select hark.watch('shop.orders')");
    const [{ name }] = await context.sql("select function_name as name from hark.watches");
    await owner.sql(
      `create or replace function shop.${name}() returns trigger language plpgsql as 'begin return null; end'`,
    );
    const db = context.use(await connect(context.url));
    await context.sql("update hark.schema_version set functions = 'of an earlier build'");
    await owner.sql("begin");
    await owner.sql(`alter function shop.${name}() cost 7`);
    assert.equal((await within(migrate(db))).changed, true);
    await owner.sql("rollback");
  },
);
