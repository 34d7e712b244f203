/** Whose rights are needed to watch a table and to write to it, and whose are used. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { people, person } from "./_support/rights.ts";

const denied = { code: "42501" };

test(
  "who writes to a watched table needs no rights on Hark's schema",
  { schema: false },
  async (context) => {
    const { hark, owner, writer } = await people(context);
    await owner.sql("select hark.watch('shop.orders', headers => '{\"from\": \"shop\"}')");
    await writer.sql("insert into shop.orders values (1, 'pen', 2), (2, 'ink', 3)");
    await writer.sql("update shop.orders set id = 3 where id = 2");
    await writer.sql("delete from shop.orders");
    await writer.sql("truncate shop.orders");
    const log = await hark.sql("select payload -> 'metadata' ->> 'user' as user from hark.log");
    assert.deepEqual(log, new Array(7).fill({ user: writer.name }));
    for (
      const call of [
        "select hark.notify('shop.orders')",
        "insert into hark.published (channel, payload) values ('shop.orders', '1')",
        "select hark.watch('shop.orders')",
        "select hark.unwatch('shop.orders')",
        "select * from hark.watches()",
      ]
    ) await assert.rejects(writer.sql(call), denied, call);
  },
);

test(
  "an owner who may not publish is told so, and by what that is mended",
  { schema: false },
  async (context) => {
    const { sql } = context;
    const { hark, owner } = await people(context);
    const poor = (await person(context)).name;
    await sql(
      `create schema plain; create table plain.items (id integer primary key); alter table plain.items owner to ${poor}`,
    );
    await assert.rejects(sql("select hark.watch('plain.items')"), {
      code: "42501",
      message: `role "${poor}", which owns table plain.items, may not publish`,
      hint: `As the owner of the schema hark: select hark.grant_publish('${poor}').`,
    });
    await hark.sql("select hark.grant_publish($1)", [poor]);
    await assert.rejects(sql("select hark.watch('plain.items')"), {
      code: "42501",
      message:
        `role "${poor}", which owns table plain.items, may not create a function in schema "plain"`,
      hint: `grant create on schema plain to ${poor}.`,
    });
    await sql(`grant create on schema plain to ${poor}`);
    assert.deepEqual(await sql("select hark.watch('plain.items')"), [{ watch: "created" }]);
    await sql(`grant usage on schema plain to ${owner.name}`);
    await assert.rejects(owner.sql("select hark.watch('plain.items')"), {
      ...denied,
      message: `table plain.items belongs to role "${poor}"`,
      hint: "Only the owner of the table can watch it.",
    });
  },
);

test("only its owner can watch a table, unwatch it or see how it is watched", {
  schema: false,
}, async (context) => {
  const { owner, other } = await people(context);
  await owner.sql("select hark.watch('shop.orders')");
  for (
    const call of [
      "select hark.watch('shop.orders', name => 'second')",
      "select hark.watch('shop.orders', payload => 'key')",
      "select hark.watch_sql('shop.orders')",
      "select hark.unwatch('shop.orders')",
      "select * from hark.snapshot('shop.orders')",
      "select hark.restart_snapshot('shop.orders')",
      "select hark.forget_watch('shop.orders')",
    ]
  ) {
    const rows = await other.sql(call).catch((error) => {
      assert.match(error.code, /^(42501|HK006)$/, `${call}: ${error.message}`);
      return "refused";
    });
    // Another's row is not there for it.
    if (rows !== "refused") assert.deepEqual(Object.values(rows[0]!), [false], call);
  }
  assert.deepEqual(await other.sql("select * from hark.watches"), []);
  const [{ count }] = await owner.sql("select count(*)::int from hark.watches");
  assert.equal(count, 1);
  const forged = `insert into hark.watches
    select function_schema, function_name, table_schema, table_name, name, $1, definition from hark.watches`;
  await assert.rejects(owner.sql(forged, [other.name]), denied);
  await assert.rejects(owner.sql("update hark.watches set owner = $1", [other.name]), denied);
  await assert.rejects(
    other.sql(
      `insert into hark.watches (function_schema, function_name, table_schema, table_name, name, owner, definition)
      values ('shop', 'x', 'shop', 'orders', 'watch', '${owner.name}', '{}')`,
    ),
  );
});

test(
  "a forged row of one's own does not stand for another's table",
  { schema: false },
  async (context) => {
    const { sql } = context;
    const { owner, other, writer } = await people(context);
    await owner.sql("select hark.watch('shop.orders')");
    const [{ watches: real }] = await owner.sql(
      "select to_jsonb(w) as watches from hark.watches w",
    );
    await other.sql("create table other.mine (id integer primary key)");
    const forge = (row: Record<string, unknown>) =>
      other.sql(
        `insert into hark.watches select (jsonb_populate_record(null::hark.watches, $1)).*`,
        [JSON.stringify({ ...real, owner: other.name, ...row })],
      );
    await forge({});
    await forge({ function_name: "other", name: "second" });
    await forge({
      function_schema: "pg_catalog",
      function_name: "lower",
      table_schema: "other",
      table_name: "mine",
    });
    await assert.rejects(forge({ function_name: "x", definition: {} }), { code: "23514" });
    await assert.rejects(
      forge({ function_name: "x", definition: { ...real.definition, max_bytes: "1" } }),
      { code: "23514" },
    );
    await assert.rejects(
      forge({ function_name: "x", definition: { ...real.definition, columns: { x: "id" } } }),
      { code: "23514" },
    );
    const seen = await sql(
      `select relation::text, name, cardinality(drift) > 0 as drifts from hark.watches()
     order by relation::text collate "C" desc nulls last, name`,
    );
    assert.deepEqual(seen, [
      { relation: "shop.orders", name: "watch", drifts: false },
      { relation: "other.mine", name: "watch", drifts: true },
      { relation: null, name: "second", drifts: true },
    ]);
    await sql("select hark.unwatch('other.mine')");
    await sql("select hark.watch('shop.orders', name => 'second')");
    await writer.sql("insert into shop.orders values (1, 'pen', 2)");
    const log = await sql("select channel from hark.log");
    assert.deepEqual(log, [{ channel: "shop.orders" }, { channel: "shop.orders" }]);
  },
);

test(
  "no other role can use a watch's trigger function on its own table",
  { schema: false },
  async (context) => {
    const { owner, other } = await people(context);
    await owner.sql("select hark.watch('shop.orders')");
    const [{ name }] = await owner.sql(
      "select format('%I.%I', function_schema, function_name) as name from hark.watches",
    );
    await other.sql("create table other.mine (id integer)");
    await assert.rejects(
      other.sql(
        `create trigger t after insert on other.mine for each row execute function ${name}()`,
      ),
      denied,
    );
  },
);
