/** Upgrades by another role than the schema's owner. */

import assert from "node:assert/strict";
import { connect, Consumer, migrate, notify, watch, watches } from "../../mod.ts";
import { generate } from "../../sql/generate.ts";
import { script } from "../../src/schema/script.ts";
import { schemaVersion } from "../../src/schema/version.ts";
import { test, type TestContext } from "../harness/mod.ts";
import { type Role, role } from "./_support/role.ts";

const empty = { schema: false };

/** An upgrade that adds one object of each kind. */
async function upgrade(): Promise<string> {
  const added = `
    create table hark.added (id bigint generated always as identity primary key, text text);
    create view hark.added_view as select id from hark.added;
    create sequence hark.added_numbers;
    create type hark.added_row as (id bigint);
    create domain hark.added_domain as text;`;
  const files = { ...JSON.parse(await generate()), [`upgrades/${schemaVersion}.sql`]: added };
  return script(files, "an earlier build");
}

/** Installs as an ordinary role, and makes of it a version that lacks a function which others call. */
async function earlier(context: TestContext): Promise<Role> {
  const owner = await role(context, { owner: true });
  await migrate(context.use(await connect(owner.url)));
  await context.sql(
    "drop function hark.in_short; update hark.schema_version set version = '0.0.9'",
  );
  return owner;
}

/** What belongs to another role than the schema does. */
const others = ({ sql }: TestContext) =>
  sql(`
    with owned (name, owner) as (
      select p.oid::regprocedure::text, p.proowner from pg_proc p where p.pronamespace = 'hark'::regnamespace
      union all select c.oid::regclass::text, c.relowner from pg_class c where c.relnamespace = 'hark'::regnamespace
      union all select t.oid::regtype::text, t.typowner from pg_type t where t.typnamespace = 'hark'::regnamespace
    )
    select name from owned where owner <> (select nspowner from pg_namespace where nspname = 'hark') order by name`);

const upgraders: [string, (context: TestContext, owner: Role) => Promise<string>][] = [
  ["a superuser", ({ url }) => Promise.resolve(url)],
  ["a member of the owner's role", async (context, { name }) => {
    const member = await role(context);
    await context.sql(`grant ${name} to ${member.name}`);
    return member.url;
  }],
];

for (const [upgrader, urlOf] of upgraders) {
  test(
    `after an upgrade by ${upgrader}, all belongs to the schema's owner, whose next upgrade passes`,
    empty,
    async (context) => {
      const owner = await earlier(context);
      const client = await context.client(await urlOf(context, owner));
      await client.query(await upgrade());
      assert.deepEqual(await others(context), []);

      const db = context.use(await connect(owner.url));
      await db.query("create table orders (id int primary key)");
      await watch(db, "orders");
      await db.query("insert into orders values (1)");
      await notify(db, "c", 1);
      const seen: unknown[] = [];
      const consumer = new Consumer(db, {
        id: "c",
        channels: ["c", "public.orders"],
        handle: (n) => void seen.push(n.isDatabaseChange ? n.newData : n.payload),
      });
      assert.equal(await consumer.drain(), 2);
      assert.deepEqual(seen, [{ id: 1 }, 1]);
      assert.equal((await migrate(db)).changed, true);
      assert.deepEqual((await watches(db))[0]!.drift, []);
    },
  );
}

test(
  "an owner to whom not all of the schema belongs is sent to a superuser, whose upgrade gives it all",
  empty,
  async (context) => {
    const owner = await earlier(context);
    await context.sql("alter function hark.wake_all owner to current_user");
    await context.sql("alter table hark.dead owner to current_user");
    const db = context.use(await connect(owner.url));
    await assert.rejects(migrate(db), {
      code: "NO_PERMISSION",
      message: /may not upgrade the schema "hark": must be owner of function/,
      remedy: /^Only a superuser may, .* hark init --database-url postgres:\/\/SUPERUSER@HOST/,
    });
    await migrate(context.use(await connect(context.url)));
    assert.deepEqual(await others(context), []);
    await context.sql("update hark.schema_version set functions = 'others'");
    assert.equal((await migrate(db)).changed, true);
  },
);
