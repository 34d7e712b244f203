/** Deleting notifications by hand, with every copy, and the record of it. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  deleteNotifications,
  deletions,
  notification,
  notifications,
  notify,
  notifyMany,
} from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";

test("one customer's data is erased from the log, from what waits, from dead letters and from what is delayed", async (context) => {
  const { url, sql, use } = context;
  const db = use(await connect(url));
  for (const name of ["r", "s"]) {
    await sql("select hark.register($1, array['orders', 'mail'], 'beginning')", [name]);
  }
  await notifyMany(
    db,
    Array.from({ length: 9 }, (_, n) => ({
      channel: n % 2 === 0 ? "orders" : "mail",
      key: n % 3 === 0 ? "ada" : "bob",
      payload: { n },
    })),
  );
  await notify(db, "orders", { later: 1 }, { key: "ada", delay: "1h", dedupe: { key: "d" } });
  await notify(db, "orders", { later: 2 }, { key: "bob", delay: "1h" });
  await sql(`insert into hark.dead (consumer, id, channel, key, payload, attempts)
    values ('r', 900, 'orders', 'ada', '1', 3), ('r', 901, 'orders', 'bob', '1', 3), ('s', 1, 'orders', 'ada', '1', 3)`);
  await sql(`insert into hark.waiting (consumer, id, partition, key, state, channel, payload)
    values ('r', 1, 0, 'ada', 'failed', null, null), ('s', 903, 0, 'ada', 'retry', 'mail', '1'),
      ('s', 904, 0, 'bob', 'retry', 'mail', '1')`);
  const { deletion, ...counts } = await deleteNotifications(db, { key: "ada" }, {
    reason: "erasure, ticket 1234",
  });
  assert.deepEqual(counts, { log: 3, waiting: 2, dead: 2, delayed: 1 });
  for (const table of ["log", "waiting", "dead", "delayed"]) {
    const left = await sql(`select distinct key from hark.${table}`);
    assert.deepEqual(left.map(({ key }) => key), ["bob"], table);
  }
  assert.deepEqual(await sql("select * from hark.dedupe"), []);
  const [record] = await deletions(db);
  const { begunAt, finishedAt, role, login, ...rest } = record!;
  assert.deepEqual(rest, {
    deletion,
    reason: "erasure, ticket 1234",
    channel: null,
    choice: ["key"],
    ...counts,
  });
  const [{ me }] = await sql("select current_user as me");
  assert.deepEqual([role, login], [me, me]);
  assert(begunAt <= finishedAt!);
  // The record has nothing of what was erased.
  assert(!JSON.stringify(await sql("select * from hark.deletions")).includes("ada"));
  // Consumers go on with the rest.
  const read: number[] = [];
  await new Consumer(db, {
    id: "r",
    channels: ["orders", "mail"],
    handle: ({ id }) => void read.push(id),
  }).drain();
  assert.deepEqual(read.toSorted((a, b) => a - b), [2, 3, 5, 6, 8, 9]);
});

test("ids, a range, a channel, a payload or a text choose what is deleted, and nothing else goes", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await notifyMany(
    db,
    Array.from({ length: 12 }, (_, n) => ({
      channel: n < 6 ? "a" : "b",
      payload: { n: n + 1, text: `t${n + 1}.` },
    })),
  );
  const reason = "a test";
  const left = async () =>
    (await notifications(db, { newestFirst: false })).notifications.map(({ id }) => id);
  await deleteNotifications(db, [2, 12, 99], { reason });
  assert.deepEqual(await left(), [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  await deleteNotifications(db, { channel: "a", from: 5 }, { reason });
  assert.deepEqual(await left(), [1, 3, 4, 7, 8, 9, 10, 11]);
  await deleteNotifications(db, { contains: { n: 8 } }, { reason });
  await deleteNotifications(db, { search: "t9." }, { reason });
  assert.deepEqual(await left(), [1, 3, 4, 7, 10, 11]);
  await deleteNotifications(db, { to: 3 }, { reason });
  await deleteNotifications(db, { from: new Date(Date.now() + 60_000) }, { reason });
  assert.deepEqual(await left(), [4, 7, 10, 11]);
  assert.deepEqual((await deletions(db)).map(({ choice, log }) => [choice, log]), [
    [["from"], 0],
    [["to"], 2],
    [["search"], 1],
    [["contains"], 1],
    [["channel", "from"], 2],
    [["ids"], 2],
  ]);
  assert.equal((await deletions(db, { limit: 2, before: 3 })).length, 2);
  // Of a transaction that is rolled back nothing is deleted, and nothing recorded.
  await assert.rejects(
    db.transaction(async (tx) => {
      await deleteNotifications(tx, { channel: "b" }, { reason });
      throw new Error("undo");
    }),
    /undo/,
  );
  assert.deepEqual(await left(), [4, 7, 10, 11]);
  assert.equal((await sql("select count(*)::int as n from hark.deletions"))[0].n, 6);
});

test("a large deletion goes batch by batch, and leaves what is published during it", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await sql(`insert into hark.log (channel, key, payload)
    select 'c', case when n % 100 = 0 then 'ada' else 'bob' end, to_jsonb(n) from generate_series(1, 45000) n`);
  const seen: number[] = [];
  const publishing: Promise<unknown>[] = [];
  const { log } = await deleteNotifications(db, { key: "ada" }, {
    reason: "erasure",
    onProgress: (so) => {
      seen.push(so.log);
      publishing.push(notify(db, "c", 0, { key: "ada" }));
    },
  });
  await Promise.all(publishing);
  assert.deepEqual(seen, [200, 400, 450]);
  assert.equal(log, 450);
  const [{ n }] = await sql("select count(*)::int as n from hark.log where key = 'ada'");
  assert.equal(n, 3);
  assert.equal((await deletions(db)).length, 1);
});

test("a deletion needs a choice and a reason, and the right to operate; the record names who it was", async (context) => {
  const { url, sql, use } = context;
  const db = use(await connect(url));
  await notify(db, "c");
  const reason = "a test";
  for (
    const [which, options, sentence] of [
      [{}, { reason }, /without a choice/],
      [[], { reason }, /Give at least one id/],
      [[0], { reason }, /which is 0/],
      [{ chanel: "c" }, { reason }, /Did you mean channel/],
      [[1], {}, /reason is undefined/],
      [[1], { reason: "" }, /reason is ""/],
      [[1], undefined, /not an object/],
    ] as [number[], { reason: string }, RegExp][]
  ) {
    await assert.rejects(deleteNotifications(db, which, options), {
      name: "HarkError",
      code: "BAD_OPTION",
      message: sentence,
    });
  }
  const [operator, consumer] = [await role(context), await role(context)];
  await sql("select hark.grant_operate($1)", [operator.name]);
  await sql("select hark.grant_consume($1)", [consumer.name]);
  const reads = use(await connect(consumer.url));
  await assert.rejects(deleteNotifications(reads, [1], { reason }), { code: "NO_PERMISSION" });
  await assert.rejects(deletions(reads), { code: "NO_PERMISSION" });
  const operates = use(await connect(operator.url));
  const { deletion } = await deleteNotifications(operates, [1], { reason });
  assert.equal((await deletions(db))[0]!.role, operator.name);
  // No role continues or changes the record of another, or of a finished deletion.
  await assert.rejects(
    db.query(
      `select * from hark.delete_notifications($1, channel => 'c', continued => ${deletion}, at_id => 1)`,
      [reason],
    ),
    { code: "BAD_OPTION" },
  );
  await assert.rejects(operates.query("delete from hark.deletions"), { code: "NO_PERMISSION" });
});

test("a notification that is delivered during a deletion is found in the log", async ({ url, sql, use, client }) => {
  const db = use(await connect(url));
  await sql("select hark.notify_at('c', '1', 'ada', deliver_at => now() - interval '1 minute')");
  const delivering = await client();
  await delivering.query("begin");
  await delivering.query("select * from hark.deliver_due()");
  const deleting = deleteNotifications(db, { key: "ada" }, { reason: "erasure" });
  await until(
    async () =>
      (await sql(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      ))
        .length > 0,
    { what: "the deletion to wait for the delivery" },
  );
  await delivering.query("commit");
  const { log, delayed } = await deleting;
  assert.deepEqual([log, delayed], [1, 0]);
  assert.deepEqual(await sql("select from hark.log"), []);
});

test("what was published before a deletion, and commits during it, is deleted too", async ({ url, sql, use, client }) => {
  const db = use(await connect(url));
  const publishing = await client();
  await notifyMany(db, [1, 2, 3].map((n) => ({ channel: "c", key: "ada", payload: { n } })));
  await publishing.query("begin");
  await publishing.query("savepoint s");
  await publishing.query("select hark.notify('c', '4', 'ada'), hark.notify('c', '5', 'bob')");
  let looks = 0;
  const deleting = deleteNotifications(db, { key: "ada" }, {
    reason: "erasure",
    onProgress: ({ log }) => {
      if (log > 0) looks++;
    },
  });
  await until(() => looks > 1, { what: "the deletion to wait for the publisher" });
  assert.equal((await deletions(db))[0]!.finishedAt, null);
  await publishing.query("commit");
  assert.equal((await deleting).log, 4);
  assert.deepEqual(await sql("select key from hark.log"), [{ key: "bob" }]);
  assert((await deletions(db))[0]!.finishedAt);
});

test("a deletion says that it is not finished if an earlier publisher stays open", async ({ url, sql, use, client }) => {
  const db = use(await connect(url));
  const publishing = await client();
  await notify(db, "c", 1, { key: "ada" });
  await publishing.query("begin");
  await publishing.query("select hark.notify('c', '2', 'ada')");
  await assert.rejects(deleteNotifications(db, { key: "ada" }, { reason: "erasure" }), {
    code: "CONFLICT",
    message:
      /^deletion 1 is not finished: 1 transaction that may have published before it began is/,
  });
  assert.deepEqual(await sql("select from hark.log"), []);
  assert.equal((await deletions(db))[0]!.finishedAt, null);
  await publishing.query("commit");
  assert.equal((await deleteNotifications(db, { key: "ada" }, { reason: "erasure" })).log, 1);
});

test("a program deletes inside its own transaction, which has published", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await db.transaction(async (tx) => {
    await notify(tx, "c", 1, { key: "ada" });
    const { log } = await deleteNotifications(tx, { key: "ada" }, { reason: "by mistake" });
    assert.equal(log, 1);
  });
  assert.deepEqual(await sql("select from hark.log"), []);
});

test("what waits behind a deleted notification of its key goes on while the worker runs", async ({ url, use }) => {
  const db = use(await connect(url));
  await notifyMany(db, [1, 2, 3].map((n) => ({ channel: "c", key: "ada", payload: { n } })));
  const handled: number[] = [];
  const failed = Promise.withResolvers<void>();
  const consumer = new Consumer(db, {
    id: "r",
    channels: "c",
    from: "beginning",
    retry: { initial: 600_000 },
    handle({ id }) {
      if (id > 1) return void handled.push(id);
      failed.resolve();
      throw new Error("it can never succeed");
    },
  });
  const running = consumer.run();
  await failed.promise;
  await until(async () => (await notification(db, 2))?.consumers[0]?.verdict === "waiting", {
    what: "the second to wait",
  });
  const { log, waiting } = await deleteNotifications(db, [1, 3], { reason: "a mistake" });
  assert.deepEqual([log, waiting], [2, 2]);
  await until(() => handled.length > 0, { what: "the second to be handled" });
  await consumer.stop();
  await running;
  assert.deepEqual(handled, [2]);
});
