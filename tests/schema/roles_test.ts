import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type Database,
  notify,
  notifyMany,
  seek,
  status,
  subscribe,
} from "../../mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";
import { Events, serve } from "../streams/_support/serve.ts";
import { role } from "./_support/role.ts";

const refused = {
  name: "HarkError",
  code: "NO_PERMISSION",
  remedy: /hark\.grant_(publish|read|consume|operate)\('\w+'\)|owner of the schema/,
};
const drain = (db: Database) => new Consumer(db, { id: "c", channels: "c", handle() {} }).drain();

/** What only the owner may do, whatever was granted. */
const owners = [
  "select * from hark.log",
  "insert into hark.log (channel, payload) values ('c', '1')",
  "update hark.log set payload = '2'",
  "delete from hark.log",
  "select * from hark.consumers",
  "update hark.partitions set epoch = 0",
  "delete from hark.schema_version",
  "select hark.grant_publish('postgres')",
  "select hark.clean(now())",
  "create table hark.mine (n int)",
];

test("an ordinary role may do nothing until it is granted, and is told what to ask for", async (context) => {
  const other = await role(context);
  const db = context.use(await connect(other.url));
  await assert.rejects(notify(db, "c", 1), refused);
  await assert.rejects(notifyMany(db, [{ channel: "c" }]), refused);
  await assert.rejects(drain(db), refused);
  await assert.rejects(new Consumer(db, { id: "c", channels: "c", handle() {} }).run(), refused);
  await assert.rejects(subscribe(db, "c").next(), refused);
  for (const statement of owners) await assert.rejects(db.query(statement), refused, statement);
});

test("grant_publish lets a role publish, and nothing else", async (context) => {
  const publisher = await role(context);
  await context.sql("select hark.grant_publish($1)", [publisher.name]);
  const db = context.use(await connect(publisher.url));
  await notify(db, "c", 1, { key: "k", headers: { a: 1 } });
  await notifyMany(db, [{ channel: "c", payload: 2 }]);
  await db.query("select hark.smart_notify('c', '3')");
  await db.transaction((tx) => notify(tx, "c", 4));
  assert.equal((await context.sql("select count(*)::int from hark.log"))[0].count, 4);
  await assert.rejects(drain(db), refused);
  await assert.rejects(subscribe(db, "c").next(), refused);
  for (const statement of owners) await assert.rejects(db.query(statement), refused, statement);
});

test("grant_consume lets a role register, run, drain and subscribe, and nothing else", async (context) => {
  const consumer = await role(context);
  await context.sql("select hark.grant_consume($1)", [consumer.name]);
  const db = context.use(await connect(consumer.url));
  await publish(context, 1, 3);
  assert.equal(await drain(db), 3);
  await publish(context, 4, 4);
  let failed = false;
  const running = context.use(
    new Running(db, {
      id: "running",
      retry: { initial: 5 },
      handle: () => {
        if (failed) return;
        failed = true;
        throw new Error("once");
      },
    }),
  );
  await running.atLeast(5);
  for await (const n of subscribe(db, "c", { from: "beginning" })) if (n.payload === 4) break;
  assert.equal((await db.query("select * from hark.status()")).rows.length, 2);
  await assert.rejects(notify(db, "c", 5), refused);
  for (const statement of owners) await assert.rejects(db.query(statement), refused, statement);
});

test("grant_read lets a role subscribe and serve streams, and nothing else", async (context) => {
  const reader = await role(context);
  await context.sql("select hark.grant_read($1)", [reader.name]);
  const db = context.use(await connect(reader.url));
  await publish(context, 1, 3);
  const following = subscribe(db, "c", { from: "beginning", pollInterval: 50 });
  const next = async () => (await following.next()).value?.payload;
  for (const n of [1, 2, 3]) assert.equal(await next(), n);
  const later = next();
  await publish(context, 4, 4);
  assert.equal(await later, 4);
  await following.return();
  const { url } = context.use(serve(db, { channels: "c" }));
  assert.deepEqual(await (await fetch(url)).json(), [1, 2, 3, 4]);
  const live = context.use(new Events(`${url}?offset=-1&live=sse`));
  await until(() => live.all.some(({ data }) => data.includes("4")));
  await assert.rejects(notify(db, "c", 5), refused);
  await assert.rejects(drain(db), refused);
  await assert.rejects(status(db), refused);
  await assert.rejects(db.query("select hark.measure(gen_random_uuid())"), refused);
  await assert.rejects(seek(db, "running", "beginning"), refused);
  for (const statement of owners) await assert.rejects(db.query(statement), refused, statement);
});

test("a subscription of a role that may only read goes on for longer than a minute", async (context) => {
  const reader = await role(context);
  await context.sql("select hark.grant_read($1)", [reader.name]);
  const db = context.use(await connect(reader.url));
  const following = subscribe(db, "c", { from: "beginning", pollInterval: 50 });
  const next = async () => (await following.next()).value?.payload;
  await publish(context, 1, 1);
  assert.equal(await next(), 1);
  const { now } = performance;
  context.use({ [Symbol.dispose]: () => void (performance.now = now) });
  for (const n of [2, 3]) {
    performance.now = () => now.call(performance) + n * 70_000;
    await publish(context, n, n);
    assert.equal(await next(), n);
  }
  await following.return();
});

test("revoke_rights takes every right, and an upgrade does not give them back", async (context) => {
  const one = await role(context);
  for (const kind of ["publish", "read", "consume", "operate", "observe"]) {
    await context.sql(`select hark.grant_${kind}($1)`, [one.name]);
  }
  const db = context.use(await connect(one.url));
  await notify(db, "c", 1);
  await context.sql("select hark.revoke_rights($1)", [one.name]);
  await context.sql("select hark.renew_grants()");
  await assert.rejects(notify(db, "c", 2), refused);
  await assert.rejects(drain(db), refused);
  await assert.rejects(status(db), refused);
  await assert.rejects(db.query("select * from hark.watches"), /permission denied/);
  await assert.rejects(context.sql("select hark.revoke_rights('not there')"), /does not exist/);
});

test("a right that a plain REVOKE took stays taken through an upgrade, also beside another right", async (context) => {
  const one = await role(context);
  await context.sql("select hark.grant_publish($1), hark.grant_read($1)", [one.name]);
  for (
    const { call } of await context.sql(
      `select p.oid::regprocedure::text as call from pg_proc p
      where p.pronamespace = 'hark'::regnamespace and p.proname = any (hark.functions_for('read'))
        and p.proname <> all (hark.functions_for('publish'))`,
    )
  ) {
    await context.sql(`revoke execute on function ${call} from ${one.name}`);
  }
  await context.sql("select hark.renew_grants()");
  const db = context.use(await connect(one.url));
  await notify(db, "c", 1);
  await assert.rejects(subscribe(db, "c").next(), refused);
});

test("a role that was renamed, or restored from a dump, keeps its right through an upgrade", async (context) => {
  const [app, other] = [await role(context), await role(context)];
  await context.sql("select hark.grant_publish($1), hark.grant_read($2)", [app.name, other.name]);
  // As if this version had a function more.
  const added = async (name: string) => {
    await context.sql(`revoke execute on function hark.notify from ${name}`);
    await context.sql("select hark.renew_grants()");
    const [{ may }] = await context.sql(
      "select has_function_privilege($1, p.oid, 'execute') as may from pg_proc p where p.oid = 'hark.notify'::regproc",
      [name],
    );
    return may;
  };
  // The name is another role's from now on, which has no such right.
  await context.sql(`alter role ${app.name} rename to ${app.name}_old`);
  await context.sql(`alter role ${other.name} rename to ${app.name}`);
  try {
    assert.equal(await added(`${app.name}_old`), true);
    assert.equal(await added(app.name), false);
  } finally {
    await context.sql(`alter role ${app.name} rename to ${other.name}`);
    await context.sql(`alter role ${app.name}_old rename to ${app.name}`);
  }
  // After a rename and pg_upgrade, the number is the only one to go by.
  await context.sql(`alter role ${app.name} rename to ${app.name}_old`);
  try {
    await context.sql("update hark.grants set server = 1");
    assert.equal(await added(`${app.name}_old`), true);
  } finally {
    await context.sql(`alter role ${app.name}_old rename to ${app.name}`);
  }
  await context.sql("select hark.renew_grants()");
  // On another server roles have other numbers.
  await context.sql(
    "update hark.grants g set server = 1, role = (select r.role from hark.grants r where r.role <> g.role)",
  );
  assert.equal(await added(app.name), true);
  assert.equal(await added(other.name), false);
});

test("a role that may only read keeps that right through an upgrade", async (context) => {
  const reader = await role(context);
  await context.sql("select hark.grant_read($1)", [reader.name]);
  await context.sql("select hark.renew_grants()");
  await publish(context, 1, 1);
  const db = context.use(await connect(reader.url));
  for await (const n of subscribe(db, "c", { from: "beginning" })) if (n.payload === 1) break;
});

test("a right that is taken away ends a running consumer, and says why", async (context) => {
  const consumer = await role(context);
  await context.sql("select hark.grant_consume($1)", [consumer.name]);
  const db = context.use(await connect(consumer.url));
  const running = new Running(db, { pollInterval: 30 });
  await publish(context, 1, 1);
  await running.atLeast(1);
  await context.sql(`revoke usage on schema hark from ${consumer.name}`);
  await context.sql(
    `revoke execute on all functions in schema hark from ${consumer.name}`,
  );
  await assert.rejects(running.done, refused);
});

test("granting to a role that does not exist is refused with its name", async (context) => {
  const db = context.use(await connect(context.url));
  for (const grant of ["grant_publish", "grant_consume"]) {
    await assert.rejects(db.query(`select hark.${grant}('unknown"; drop schema hark')`), {
      code: "BAD_OPTION",
      message: /role "unknown"; drop schema hark" does not exist/,
      remedy: /Create the role first/,
    });
  }
});

test("a role whose name needs quoting can be granted", async (context) => {
  const name = `Odd "role" ${crypto.randomUUID().slice(0, 8)}`;
  const quoted = `"${name.replaceAll('"', '""')}"`;
  await context.sql(`create role ${quoted}`);
  context.use({
    async [Symbol.asyncDispose]() {
      await context.sql(`drop owned by ${quoted}`);
      await context.sql(`drop role ${quoted}`);
    },
  });
  await context.sql("select hark.grant_publish($1), hark.grant_consume($1)", [name]);
  const client = await context.client();
  await client.query(`set role ${quoted}`);
  await notify(client, "c", 1);
  assert.equal(
    await new Consumer(client, { id: "c", channels: "c", handle() {} }).drain(),
    1,
  );
});
