import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  deadLetters,
  setContext,
  type StandardSchema,
  status,
  unwatch,
  unwatchSql,
  watch,
  watched,
  watches,
  type WatchOptions,
  watchSql,
} from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { type User, users, withUsers } from "./_support/users.ts";

test("changes of a watched table reach a handler with types, key, context and who it was", async (c) => {
  const db = await withUsers(c);
  const made = await watch(db, users);
  assert.deepEqual(made, {
    table: "public.users",
    name: "watch",
    channel: "public.users",
    outcome: "created",
    level: "statement",
    reason: null,
    snapshot: undefined,
  });
  await db.transaction(async (tx) => {
    await setContext(tx, { requestId: "b2c4" });
    await tx.query(
      "insert into users values (1, 'ann@example.com', 30), (2, 'bob@example.com', null)",
    );
    await setContext(tx, null);
    await tx.query("update users set age = age + 1 where id = 1");
  });
  await db.query("delete from users where id = 2");
  await db.query("truncate users");
  const seen: unknown[] = [];
  await new Consumer(db, {
    id: "mailing",
    channels: users.channel,
    handle: users.handler((change) => {
      const { key } = change.notification;
      if (change.isInsert()) seen.push(["insert", key, change.new.email, change.context]);
      if (change.isUpdate()) {
        seen.push([
          "update",
          change.id,
          change.old.age,
          change.new.age,
          change.changed,
          change.context,
        ]);
      }
      if (change.isDelete()) seen.push(["delete", change.id, change.old]);
      if (change.isTruncate()) seen.push(["truncate", key, change.metadata.application]);
    }),
  }).drain();
  assert.deepEqual(seen, [
    ["insert", "1", "ann@example.com", { requestId: "b2c4" }],
    ["insert", "2", "bob@example.com", { requestId: "b2c4" }],
    ["update", 1, 30, 31, ["age"], {}],
    ["delete", 2, { id: 2, email: "bob@example.com", age: null }],
    ["truncate", null, c.appName],
  ]);
});

test("every option reaches the database", async (c) => {
  const db = await withUsers(c);
  const options: WatchOptions = {
    channel: "people",
    name: "adults",
    operations: ["insert", "update"],
    exclude: ["email"],
    key: ["email", "id"],
    when: "new.age > 17",
    ifChanged: ["age"],
    payload: "diff",
    headers: { source: 'a "quoted" \\ one' },
    maxBytes: 2000,
    replicated: true,
    level: "row",
  };
  const made = await watch(db, "users", options);
  assert.deepEqual([made.channel, made.name, made.level], ["people", "adults", "row"]);
  assert.match(made.reason ?? "", /\w/);
  const [found] = await watches(db);
  assert.deepEqual(
    [found?.table, found?.exists, found?.operations, found?.payload, found?.key, found?.drift],
    ["public.users", true, ["insert", "update"], "diff", ["email", "id"], []],
  );
  assert(found!.createdAt > new Date(Date.now() - 60_000));
  const { condition, if_changed, headers, max_bytes, replicated } = found!.definition;
  assert.deepEqual([condition, if_changed, headers, max_bytes, replicated], [
    "new.age > 17",
    ["age"],
    options.headers,
    2000,
    true,
  ]);
  await db.query("insert into users values (1, 'child', 7), (2, 'adult', 30)");
  const [row, ...others] = await c.sql("select channel, key, headers, payload from hark.log");
  assert.equal(others.length, 0);
  assert.deepEqual([row.channel, row.key, row.headers], [
    "people",
    '["adult", "2"]',
    options.headers,
  ]);
  assert.deepEqual(row.payload.new, { id: 2, age: 30 });

  const anyChange = await watch(db, "users", { name: "any", ifChanged: true, include: ["age"] });
  assert.equal(anyChange.outcome, "created");
  const definitions = (await watches(db)).map(({ definition }) => definition.if_changed);
  assert.deepEqual(definitions, [["age"], ["*"]]);
});

test("watching again replaces; the same once more changes nothing; unwatch ends it", async (c) => {
  const db = await withUsers(c);
  const outcome = async (options?: WatchOptions) => (await watch(db, "users", options)).outcome;
  assert.equal(await outcome(), "created");
  assert.equal(await outcome(), "unchanged");
  assert.equal(await outcome({ payload: "key" }), "replaced");
  assert.equal(await outcome({ name: "second", channel: "c" }), "created");
  assert.deepEqual((await watches(db)).map(({ name }) => name), ["second", "watch"]);
  assert.equal(await unwatch(db, users), true);
  assert.equal(await unwatch(db, users), false);
  assert.equal(await unwatch(db, "users", { name: "second" }), true);
  assert.deepEqual(await watches(db), []);
  await db.query("insert into users values (1, 'a')");
  assert.deepEqual(await c.sql("select * from hark.log"), []);
});

test("within a transaction, watching and its changes come about together or not at all", async (c) => {
  const db = await withUsers(c);
  await assert.rejects(
    db.transaction(async (tx) => {
      await watch(tx, users);
      await tx.query("insert into users values (1, 'a')");
      throw new Error("no");
    }),
    /no/,
  );
  assert.deepEqual(await watches(db), []);
  await db.transaction(async (tx) => {
    await watch(tx, users);
    await tx.query("insert into users values (1, 'a')");
  });
  assert.equal((await c.sql("select * from hark.log")).length, 1);
});

test("watchSql() changes nothing, and what it gives does the same as watch()", async (c) => {
  const db = await withUsers(c);
  const script = await watchSql(db, users, { ifChanged: true });
  assert.deepEqual(await watches(db), []);
  assert.match(script, /create or replace trigger/);
  // A migration tool has begun its transaction, and may roll it back.
  await assert.rejects(
    db.transaction(async (tx) => {
      await tx.query("insert into public.users values (1, 'a')");
      await tx.query(script);
      await tx.query("select 1 / 0");
    }),
    /division by zero/,
  );
  assert.deepEqual(await watches(db), []);
  assert.deepEqual(await c.sql("select from public.users"), []);
  await c.sql(script);
  const [found] = await watches(db);
  assert.deepEqual([found?.table, found?.drift], ["public.users", []]);
  assert.equal((await watch(db, users, { ifChanged: true })).outcome, "unchanged");
});

test("unwatchSql() takes back what watchSql() gave, and both may be run again", async (c) => {
  const db = await withUsers(c);
  await c.sql(`create schema "Shop"; create table "Shop"."It's" (id integer primary key)`);
  for (const [table, name] of [["public.users", "watch"], [`"Shop"."It's"`, "o'clock"]] as const) {
    const up = await watchSql(db, table, { name });
    const down = await unwatchSql(db, table, { name });
    assert.match(down, /^select hark\.unwatch\('.+', '.+'\);\n$/);
    const left = () =>
      c.sql(`
        select (select count(*)::int from pg_trigger where not tgisinternal) as triggers,
          (select count(*)::int from pg_proc where pronamespace <> 'hark'::regnamespace
            and pronamespace <> 'pg_catalog'::regnamespace
            and pronamespace <> 'information_schema'::regnamespace) as functions,
          (select count(*)::int from hark.watches) as watches`);
    const before = await left();
    for (const script of [up, down, down, up, up, down]) await c.sql(script);
    assert.deepEqual(await left(), before);
  }
});

test("what has drifted is told by watches() and status(), and repaired by watching again", async (c) => {
  const db = await withUsers(c);
  await watch(db, users);
  assert.deepEqual((await status(db)).watches.map(({ drift }) => drift), [[]]);
  await c.sql("alter table users disable trigger user");
  const [found] = (await status(db)).watches;
  assert.match(found?.drift.join() ?? "", /is disabled/);
  assert.deepEqual(await watches(db), (await status(db)).watches);
  await c.sql("alter table users enable trigger user");
  await c.sql("alter table users add column name text");
  assert.match((await watches(db))[0]?.drift.join() ?? "", /columns have changed/);
  assert.equal((await watch(db, users)).outcome, "replaced");
  assert.deepEqual((await watches(db))[0]?.drift, []);
});

test("a watch whose table is gone is told, and can be removed by the name it had", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql(`create schema "Shop"`);
  await c.sql(`create table "Shop"."Orders" (id integer primary key)`);
  const orders = watched<{ id: number }>('"Shop"."Orders"');
  assert.equal((await watch(db, orders)).channel, "Shop.Orders");
  assert.equal((await watches(db))[0]?.table, '"Shop"."Orders"');
  await c.sql(`drop table "Shop"."Orders"`);
  const [gone] = await watches(db);
  assert.equal(gone?.exists, false);
  assert.match(gone.drift.join(), /is gone/);
  assert.equal(await unwatch(db, orders), true);
  assert.deepEqual(await watches(db), []);
});

test("a context for the session stays until it is removed", async (c) => {
  await withUsers(c);
  const client = await c.client();
  await watch(client, users);
  await setContext(client, { job: 7 }, { forSession: true });
  await client.query("insert into users values (1, 'a')");
  await client.query("insert into users values (2, 'b')");
  await setContext(client, null, { forSession: true });
  await client.query("insert into users values (3, 'c')");
  const rows = await c.sql("select headers from hark.log order by id");
  assert.deepEqual(rows.map(({ headers }) => headers), [{ job: 7 }, { job: 7 }, null]);
});

test("a row that does not fit its schema becomes a dead letter at once, the next is handled", async (c) => {
  const db = await withUsers(c);
  const withAge: StandardSchema<User> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) =>
        (value as User).age === null
          ? { issues: [{ message: "is required", path: ["age"] }] }
          : { value: value as User },
    },
  };
  const adults = watched("public.users", { row: withAge });
  await watch(db, adults);
  await db.query("insert into users values (1, 'no age', null), (2, 'aged', 3)");
  const emails: string[] = [];
  await new Consumer(db, {
    id: "c",
    channels: adults.channel,
    handle: adults.handler((change) => void (change.isInsert() && emails.push(change.new.email))),
  }).drain();
  assert.deepEqual(emails, ["aged"]);
  const [dead] = await deadLetters(db);
  assert.match(dead?.error ?? "", /of public\.users does not fit its schema: age: is required/);
  assert.equal(dead?.attempts, 1);
});
