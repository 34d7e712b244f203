import assert from "node:assert/strict";
import { connect, Consumer, type Database, notify, notifyMany, subscribe } from "../../mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { test } from "../harness/mod.ts";
import { role } from "./_support/role.ts";

const refused = {
  name: "HarkError",
  code: "NO_PERMISSION",
  remedy: /hark\.grant_(publish|consume|operate)\('\w+'\)|owner of the schema/,
};
const drain = (db: Database) => new Consumer(db, { id: "c", channels: "c", handle() {} }).drain();

/** What nobody may do but the owner, whatever was granted. */
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
    await assert.rejects(db.query(`select hark.${grant}('nobody"; drop schema hark')`), {
      code: "BAD_OPTION",
      message: /role "nobody"; drop schema hark" does not exist/,
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
