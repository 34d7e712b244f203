/** Which role may take back a delayed notification, and what roles share. */

import assert from "node:assert/strict";
import { cancelDelayed, connect, notify, notifyMany } from "../../mod.ts";
import { test, type TestContext, within } from "../harness/mod.ts";
import { type Role, role } from "../schema/_support/role.ts";

const HOUR = 3_600_000;

async function publisher(context: TestContext): Promise<Role> {
  const made = await role(context);
  await context.sql("select hark.grant_publish($1)", [made.name]);
  return made;
}

const waiting = async ({ sql }: TestContext) =>
  (await sql("select number::int as n from hark.delayed order by 1")).map((row) => row.n);

test("a publisher cannot take back what another role delayed, however it counts up", async (context) => {
  const [web, stranger] = [await publisher(context), await publisher(context)];
  const [db, other] = [
    context.use(await connect(web.url)),
    context.use(await connect(stranger.url)),
  ];
  const numbers = [
    await notify(db, "c", 1, { delay: HOUR }),
    await notify(db, "c", 2, { delay: HOUR, dedupe: "k" }),
    ...await notifyMany(db, [{ channel: "c", delay: HOUR }, { channel: "c" }]),
  ].slice(0, 3);
  for (const number of numbers) {
    await assert.rejects(cancelDelayed(other, number), {
      code: "NO_PERMISSION",
      message: `role "${web.name}" delayed notification ${number}, and role "${stranger.name}" ` +
        `does not have its rights. Cancel it as ${web.name}, or as an operator (hark.grant_operate).`,
    });
  }
  // A duplicate is told the number of the first, which gives no right to it.
  const [duplicate] = await notifyMany(other, [{ channel: "c", delay: HOUR, dedupe: "k" }]);
  assert.equal(duplicate, numbers[1]);
  await assert.rejects(cancelDelayed(other, duplicate!), { code: "NO_PERMISSION" });
  assert.deepEqual(await waiting(context), numbers);
  assert.equal(await cancelDelayed(other, 999), false);
  for (const number of numbers) assert.equal(await cancelDelayed(db, number), true);
  assert.deepEqual(await waiting(context), []);
});

test("a refused cancellation locks nothing: what is due is delivered all the same", async (context) => {
  const [web, stranger] = [await publisher(context), await publisher(context)];
  const db = context.use(await connect(web.url));
  const number = await notify(db, "c", 1, { delay: 0 });
  const client = await context.client(stranger.url);
  await client.query("begin; savepoint s");
  await assert.rejects(cancelDelayed(client, number), { code: "NO_PERMISSION" });
  await client.query("rollback to s");
  const [{ moved }] = await within(context.sql("select moved from hark.deliver_due()"));
  assert.equal(moved, 1);
  await client.query("rollback");
});

test("operators, superusers and members of the role take back what it delayed", async (context) => {
  const [web, member, operator] = [
    await publisher(context),
    await publisher(context),
    await role(context),
  ];
  await context.sql(`grant ${web.name} to ${member.name}`);
  await context.sql("select hark.grant_operate($1)", [operator.name]);
  const db = context.use(await connect(web.url));
  for (const url of [member.url, operator.url, context.url]) {
    const number = await notify(db, "c", 1, { delay: HOUR });
    const other = context.use(await connect(url));
    assert.equal(await cancelDelayed(other, number), true);
    assert.equal(await cancelDelayed(other, number), false);
  }
});

test("clients of one login who SET ROLE are told apart, and a pooler's shared role is one", async (context) => {
  const [one, two, login] = [await role(context), await role(context), await role(context)];
  for (const { name } of [one, two]) {
    await context.sql(`grant ${name} to ${login.name}`);
    await context.sql("select hark.grant_publish($1)", [name]);
  }
  const client = await context.client(login.url);
  const as = async <T>(who: Role, run: () => Promise<T>): Promise<T> => {
    await client.query(`begin; set local role ${who.name}`);
    try {
      return await run();
    } finally {
      await client.query("commit");
    }
  };
  const number = await as(one, () => notify(client, "c", 1, { delay: HOUR }));
  await assert.rejects(as(two, () => cancelDelayed(client, number)), { code: "NO_PERMISSION" });
  const other = await context.client(login.url);
  await other.query(`set role ${one.name}`);
  assert.equal(await cancelDelayed(other, number), true);
});

test("a SECURITY DEFINER function of an operator takes back for those who may call it", async (context) => {
  const [clerk, colleague, operator] = [
    await publisher(context),
    await publisher(context),
    await role(context),
  ];
  await context.sql("select hark.grant_operate($1)", [operator.name]);
  await context.sql(
    `create function public.give_up(number bigint) returns boolean language sql security definer
      set search_path = pg_catalog, pg_temp as 'select hark.cancel_delayed($1)'`,
  );
  await context.sql(`alter function public.give_up owner to ${operator.name}`);
  const db = context.use(await connect(clerk.url));
  const number = await notify(db, "c", 1, { delay: HOUR });
  const client = await context.client(colleague.url);
  await assert.rejects(cancelDelayed(client, number), { code: "NO_PERMISSION" });
  const { rows } = await client.query("select public.give_up($1) as done", [number]);
  assert.deepEqual(rows, [{ done: true }]);
});

test("a role that is renamed keeps what it stored, and a new one of its old name gets nothing", async (context) => {
  const { name } = await role(context);
  const [lasting, temporary] = [`${name}_2`, `${name}_3`];
  context.use({
    async [Symbol.asyncDispose]() {
      await client.query(`reset role; drop owned by ${name}; drop role ${name}`);
      await client.query(`alter role ${lasting} rename to ${name}`);
    },
  });
  const client = await context.client();
  const as = (who: string) =>
    client.query(`reset role; select hark.grant_publish('${who}'); set role ${who}`);
  const store = () =>
    client.query(
      `select hark.schedule('nightly', '0 3 * * *', 'UTC', now() + interval '1 hour', 'c')`,
    );
  const unschedule = () => client.query("select hark.unschedule('nightly') as done");
  await as(name);
  await store();
  await client.query("select hark.notify_at('c', deliver_at => now() + interval '1 hour')");
  const [number] = await waiting(context);
  await client.query(`reset role; alter role ${name} rename to ${lasting}; create role ${name}`);

  await as(name);
  await assert.rejects(
    cancelDelayed(client, number!),
    new RegExp(`^HarkError: role "${lasting}" delayed notification ${number}, and role "${name}" `),
  );
  await assert.rejects(store(), { code: "42501", hint: new RegExp(`^Change it as ${lasting}, `) });
  await assert.rejects(unschedule(), { code: "42501" });

  await as(lasting);
  await store();
  assert.deepEqual((await unschedule()).rows, [{ done: true }]);
  assert.equal(await cancelDelayed(client, number!), true);

  await client.query(`reset role; create role ${temporary}`);
  await as(temporary);
  await store();
  await client.query(`reset role; drop owned by ${temporary}; drop role ${temporary}`);
  await as(lasting);
  await assert.rejects(store(), { hint: /^That role is gone\. Change it as an operator / });
});

test("in a copy on another server, where roles have other numbers, the name counts", async (context) => {
  const [web, stranger] = [await publisher(context), await publisher(context)];
  const [own, other] = [await context.client(web.url), await context.client(stranger.url)];
  const delay = () =>
    own.query("select hark.notify_at('c', deliver_at => now() + interval '1 hour')");
  await delay();
  await delay();
  const numbers = await waiting(context);
  await context.sql("update hark.delayed set owner_role = $1::text::regrole", [stranger.name]);
  await context.sql("update hark.install set system_identifier = 1");
  for (const number of numbers) {
    await assert.rejects(cancelDelayed(other, number), { code: "NO_PERMISSION" });
    assert.equal(await cancelDelayed(own, number), true);
    await context.sql("select hark.rebase()"); // as the first reader there does
  }
});

test("of a role that is gone, an operator takes back what it delayed", async (context) => {
  const stranger = await publisher(context);
  await context.sql("select hark.notify_at('c', deliver_at => now() + interval '1 hour')");
  await context.sql("update hark.delayed set owner = 'hark_test_gone', owner_role = null");
  const [number] = await waiting(context);
  await assert.rejects(cancelDelayed(context.use(await connect(stranger.url)), number!), {
    code: "NO_PERMISSION",
    message: /role "hark_test_gone" delayed notification/,
  });
  assert.equal(await cancelDelayed(context.use(await connect(context.url)), number!), true);
});

test("a publisher cannot read, change or claim what waits to be delivered", async (context) => {
  const stranger = await publisher(context);
  await context.sql("select hark.notify_at('c', deliver_at => now())");
  const client = await context.client(stranger.url);
  for (
    const call of [
      "select * from hark.delayed",
      "update hark.delayed set owner = current_user",
      "insert into hark.delayed (channel, payload, deliver_at, owner) values ('c', '1', now(), 'x')",
      "select * from hark.dedupe",
      "delete from hark.dedupe",
      "select hark.cancel_any_delayed(1)",
      "select * from hark.take_dedupe('c', 'k', '1 day')",
      "select hark.forget_dedupe()",
      "select * from hark.deliver_due()",
      "select * from hark.delayed_status()",
    ]
  ) {
    await assert.rejects(client.query(call), { code: "42501" }, call);
  }
});
