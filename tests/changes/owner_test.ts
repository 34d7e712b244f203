/** A watched table that gets another owner, name or place. */

import assert from "node:assert/strict";
import { connect, rewatch, unwatch, watches } from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { drift, ours, type Sql, told } from "./_support/kinds.ts";
import { people } from "./_support/rights.ts";

const count = async (on: Sql) => (await on.sql("select count(*)::int as n from hark.log"))[0]!.n;

test("of a watched table that has got another owner, each answer says so", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const { owner, other, writer } = await people(context);
  await owner.sql("select hark.watch('shop.orders')");
  await sql(`alter table shop.orders owner to ${other.name};
    grant usage, create on schema shop to ${other.name}`);
  const refused = {
    code: "HK008",
    message: `role "${owner.name}" made the watch "watch" of table shop.orders, which belongs to ` +
      `role "${other.name}" now`,
    hint:
      `As role ${other.name}: watch the table again (hark.watch), or end the watch (hark.unwatch).`,
  };
  for (const call of ["rewatch", "snapshot", "restart_snapshot"]) {
    for (const who of [owner, other, { sql }]) {
      await assert.rejects(who.sql(`select hark.${call}('shop.orders')`), refused, call);
    }
  }
  const db = context.use(await connect(other.url));
  await assert.rejects(rewatch(db, "shop.orders"), {
    code: "CONFLICT",
    message: /belongs to role/,
  });
  const [seen] = await watches(db);
  assert.deepEqual([seen!.table, seen!.exists], ["shop.orders", true]);
  assert.deepEqual(seen!.drift, [
    "the table belongs to another role now; watch it again, as that role",
  ]);
  await assert.rejects(owner.sql("select hark.unwatch('shop.orders')"), {
    code: "42501",
    message: `table shop.orders belongs to role "${other.name}"`,
  });
  await assert.rejects(other.sql("select hark.forget_watch('shop.orders')"), {
    code: "HK008",
    hint: "End it: select hark.unwatch('shop.orders', 'watch').",
  });
  await writer.sql("insert into shop.orders values (1)");
  assert.equal(await count(context), 1);
});

for (const who of ["the new owner", "a superuser"]) {
  test(`unwatch() by ${who} ends the watch of an earlier owner: nothing publishes any more`, {
    schema: false,
  }, async (context) => {
    const { sql } = context;
    const { owner, other, writer } = await people(context);
    await owner.sql("select hark.watch('shop.orders', snapshot => true)");
    await owner.sql("select hark.watch('shop.orders', name => 'second')");
    await sql(`alter table shop.orders owner to ${other.name}`);
    await sql(`grant usage on schema shop to ${other.name}`);
    const db = context.use(await connect(who === "a superuser" ? context.url : other.url));
    assert.equal(await unwatch(db, "shop.orders"), true);
    assert.equal(await unwatch(db, "shop.orders"), false);
    await writer.sql("insert into shop.orders values (1)");
    assert.equal(await count(context), 1, "by the second watch");
    assert.equal(await unwatch(db, "shop.orders", { name: "second" }), true);
    await writer.sql("insert into shop.orders values (2)");
    assert.equal(await count(context), 1);
    assert.deepEqual(await sql("select * from hark.watches"), []);
    const left = await ours(context);
    if (who === "a superuser") assert.deepEqual(left, []);
    else assert.deepEqual(left.filter((name) => name.includes(" on ")), []);
  });
}

test(
  "the new owner watches the table again: it publishes once, and nothing of the old watch is left",
  {
    schema: false,
  },
  async (context) => {
    const { sql } = context;
    const { owner, other, writer } = await people(context);
    const asOwner = async (name: string) => {
      await sql(`alter table shop.orders owner to ${name};
      grant usage, create on schema shop to ${other.name}`);
    };
    await owner.sql("select hark.watch('shop.orders', payload => 'key', level => 'row')");
    await asOwner(other.name);
    await other.sql("select hark.watch('shop.orders')");
    await writer.sql("insert into shop.orders values (1)");
    assert.equal(await count(context), 1);
    assert.equal((await sql("select * from hark.watches")).length, 1);
    assert.deepEqual(await drift(context), []);
    // And back again.
    await asOwner(owner.name);
    await owner.sql("select hark.watch('shop.orders')");
    await writer.sql("insert into shop.orders values (2)");
    assert.equal(await count(context), 2);
    assert.deepEqual(await drift(context), []);
    assert.equal(
      await owner.sql("select hark.unwatch('shop.orders') as done").then(([r]) => r!.done),
      true,
    );
    await writer.sql("insert into shop.orders values (3)");
    assert.equal(await count(context), 2);
    assert.deepEqual(await sql("select * from hark.watches"), []);
  },
);

test(
  "after REASSIGN OWNED rewatch() takes the watch over as it is, for the role that has all of it",
  {
    schema: false,
  },
  async (context) => {
    const { sql } = context;
    const { owner, other, writer } = await people(context);
    await owner.sql(
      `select hark.watch('shop.orders', channel => 'c', condition => 'new.id > 1', headers => '{"a": 1}')`,
    );
    await sql(`reassign owned by ${owner.name} to ${other.name}`);
    await assert.rejects(owner.sql("select hark.rewatch('shop.orders')"), { code: "42501" });
    assert.deepEqual(await other.sql("select hark.rewatch('shop.orders')"), [{
      rewatch: "replaced",
    }]);
    await writer.sql("insert into shop.orders values (1), (2)");
    const [change, ...more] = await sql("select channel, key, headers from hark.log");
    assert.deepEqual([change, more], [{ channel: "c", key: "2", headers: { a: 1 } }, []]);
    assert.deepEqual(await drift(context), []);
    assert.deepEqual(await sql("select owner from hark.watches"), [{ owner: other.name }]);
    assert.equal((await ours(context)).filter((name) => name.startsWith("hark_watch_")).length, 1);
  },
);

test("a definition that another role may have changed is not taken over", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const { owner, other } = await people(context);
  await owner.sql("select hark.watch('shop.orders')");
  await sql(`reassign owned by ${owner.name} to ${other.name}`);
  await sql(
    `update hark.watches set definition = definition || '{"condition": "1 / 0 = 1"}'`,
  );
  await assert.rejects(other.sql("select hark.rewatch('shop.orders')"), { code: "HK008" });
  await assert.rejects(sql("select hark.rewatch('shop.orders')"), { code: "HK008" });
});

test("a trigger function that has got another owner keeps no trigger publishing after unwatch()", {
  schema: false,
}, async (context) => {
  const { sql } = context;
  const { owner, other, writer } = await people(context);
  await owner.sql("select hark.watch('shop.orders')");
  const [{ name }] = await sql(
    "select format('%I.%I()', function_schema, function_name) as name from hark.watches",
  ) as [{ name: string }];
  await sql(
    `grant create on schema shop to ${other.name}; alter function ${name} owner to ${other.name}`,
  );
  assert.match((await drift(context)).join(), /function belongs to another role.*repair it/);
  await sql("select hark.rewatch('shop.orders')");
  assert.deepEqual(await drift(context), []);
  await sql(`alter function ${name} owner to ${other.name}`);
  await owner.sql("select hark.unwatch('shop.orders')");
  await writer.sql("insert into shop.orders values (1)");
  assert.equal(await count(context), 0);
});

for (
  const [what, change, table] of [
    ["renamed", "alter table t rename to u", "u"],
    ["moved to another schema", "create schema s; alter table t set schema s", "s.t"],
    [
      "in a renamed schema",
      "create schema s; alter table t set schema s; alter schema s rename to z",
      "z.t",
    ],
    ["with a renamed key", "alter table t rename column id to no", "t"],
    ["dropped and made anew", "drop table t; create table t (id int primary key, v int)", "t"],
  ] as const
) {
  test(`a watched table ${what} is repaired and unwatched under its new name`, async (context) => {
    const { sql } = context;
    await sql("create table t (id int primary key, v int); select hark.watch('t')");
    await sql(change);
    const db = context.use(await connect(context.url));
    await rewatch(db, table);
    assert.deepEqual(await drift(context), []);
    await sql(`insert into ${table} values (1, 1)`);
    assert.equal((await told(context)).length, 1);
    assert.equal(await unwatch(db, table), true);
    await sql(`insert into ${table} values (2, 1)`);
    assert.deepEqual(await told(context), []);
    assert.deepEqual([await ours(context), await sql("select * from hark.watches")], [[], []]);
  });
}
