import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type Database,
  type SnapshotProgress,
  unwatch,
  watch,
  watched,
  watches,
} from "../../mod.ts";
import { test, type TestContext, waitsFor } from "../harness/mod.ts";

const things = watched<{ id: number; name: string }, "id">("public.things");

/** A database with a table of this many things, numbered from 1. */
async function withThings({ url, sql, use }: TestContext, count: number): Promise<Database> {
  await sql("create table things (id integer primary key, name text not null)");
  await sql("insert into things select n, 'thing ' || n from generate_series(1, $1::int) n", [
    count,
  ]);
  return use(await connect(url));
}

/** What has been published: the action and the id of each. */
async function published({ sql }: TestContext): Promise<string[]> {
  const rows = await sql(
    "select payload ->> 'action' || ' ' || (payload ->> 'id') as one from hark.log order by id",
  );
  return rows.map(({ one }) => one);
}

const ids = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `SNAPSHOT ${from + i}`);

test("a snapshot publishes the rows that are there, once, as changes of their own kind", async (c) => {
  const db = await withThings(c, 7);
  const told: SnapshotProgress[] = [];
  await c.sql("analyze things");
  const made = await watch(db, things, {
    snapshot: { batchSize: 3, onProgress: (progress) => void told.push(progress) },
  });
  assert.deepEqual(made.snapshot, { published: 7, total: 7, done: true });
  assert.deepEqual(told.map((one) => one.published), [3, 6, 7]);
  assert.deepEqual(told.map((one) => one.estimate), [7, 7, 7]);
  await db.query("insert into things values (8, 'new')");

  const names: string[] = [];
  await new Consumer(db, {
    id: "c",
    channels: things.channel,
    handle: things.handler((change) => {
      if (change.isSnapshot()) names.push(`${change.id} ${change.new.name}`);
      else if (change.isInsert()) names.push(`${change.id} is ${change.new.name}`);
    }),
  }).drain();
  assert.deepEqual(names.slice(5), ["6 thing 6", "7 thing 7", "8 is new"]);

  const again = await watch(db, things, { snapshot: true });
  assert.deepEqual([again.outcome, again.snapshot], [
    "unchanged",
    { published: 0, total: 7, done: true },
  ]);
  const [found] = await watches(db);
  assert.equal(found?.snapshotCount, 7);
  assert(found.snapshotDoneAt! > new Date(Date.now() - 60_000));
});

test("a snapshot that was interrupted goes on where it was", async (c) => {
  const db = await withThings(c, 10);
  const controller = new AbortController();
  const first = await watch(db, things, {
    snapshot: { batchSize: 4, signal: controller.signal, onProgress: () => controller.abort() },
  });
  assert.deepEqual(first.snapshot, { published: 4, total: 4, done: false });
  assert.equal((await watches(db))[0]?.snapshotDoneAt, null);
  const second = await watch(db, things, { snapshot: { batchSize: 4 } });
  assert.deepEqual(second.snapshot, { published: 6, total: 10, done: true });
  assert.deepEqual(await published(c), ids(1, 10));
});

test("a snapshot that goes on after the table is watched otherwise tells as it is told now", async (c) => {
  const db = await withThings(c, 4);
  const controller = new AbortController();
  const interrupted = {
    batchSize: 2,
    signal: controller.signal,
    onProgress: () => controller.abort(),
  };
  await watch(db, "things", { snapshot: interrupted });
  await watch(db, "things", { channel: "other", include: ["id"] });
  await watch(db, "things", { channel: "other", include: ["id"], snapshot: true });
  const rows = await c.sql("select channel, payload -> 'new' as row from hark.log order by id");
  assert.deepEqual(rows.map(({ channel, row }) => [channel, row]), [
    ["public.things", { id: 1, name: "thing 1" }],
    ["public.things", { id: 2, name: "thing 2" }],
    ["other", { id: 3 }],
    ["other", { id: 4 }],
  ]);
});

test("what onProgress throws ends the snapshot as it is; the next call goes on", async (c) => {
  const db = await withThings(c, 5);
  const mine = new Error("mine");
  const onProgress = () => Promise.reject(mine);
  const failed = watch(db, things, { snapshot: { batchSize: 2, onProgress } });
  await assert.rejects(failed, (error) => error === mine);
  assert.deepEqual((await watch(db, things, { snapshot: true })).snapshot, {
    published: 3,
    total: 5,
    done: true,
  });
  assert.deepEqual(await published(c), ids(1, 5));
});

test("`again` begins anew, from the first row", async (c) => {
  const db = await withThings(c, 3);
  await watch(db, things, { snapshot: true });
  const { snapshot } = await watch(db, things, { snapshot: { again: true } });
  assert.deepEqual(snapshot, { published: 3, total: 3, done: true });
  assert.deepEqual(await published(c), [...ids(1, 3), ...ids(1, 3)]);
});

test("a table that is watched already can have its snapshot later, while others write", async (c) => {
  const db = await withThings(c, 2);
  await watch(db, things);
  await db.query("insert into things values (3, 'x')");
  const writer = await c.client();
  await writer.query("begin");
  await writer.query("delete from things where id = 7");
  const made = await watch(db, things, { snapshot: true });
  await writer.query("commit");
  assert.deepEqual(made.snapshot, { published: 3, total: 3, done: true });
  assert.deepEqual(await published(c), ["INSERT 3", ...ids(1, 3)]);
});

test("rows without a key are published with the watch, or not at all", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql("create table notes (text text)");
  await c.sql("insert into notes values ('a'), ('b')");
  const made = await watch(db, "notes", { snapshot: true });
  assert.deepEqual(made.snapshot, { published: 2, total: 2, done: true });
  const again = await watch(db, "notes", { snapshot: true });
  assert.deepEqual(again.snapshot, { published: 0, total: 2, done: true });
  await unwatch(db, "notes");
  await watch(db, "notes");
  await assert.rejects(watch(db, "notes", { snapshot: true }), {
    code: "BAD_OPTION",
    message: /no key.*only when the watch begins/,
  });
});

test("a transaction is refused for a snapshot, before anything is done", async (c) => {
  const db = await withThings(c, 3);
  const remedy = { code: "IN_TRANSACTION", message: /each batch.*a database or a pool/ };
  await db.transaction(async (tx) => {
    await assert.rejects(watch(tx, things, { snapshot: true }), remedy);
    assert.deepEqual(await watches(tx), []);
  });
  const client = await c.client();
  await client.query("begin");
  await client.query("insert into things values (4, 'x')");
  await client.query("savepoint s");
  await assert.rejects(watch(client, things, { snapshot: true }), remedy);
  await client.query("commit");
  const made = await watch(client, things, { snapshot: true });
  assert.deepEqual(made.snapshot, { published: 4, total: 4, done: true });
});

test("rows that are written during a snapshot are told by their changes in the right order", async (c) => {
  const db = await withThings(c, 300);
  const writer = c.use(await connect(c.url));
  let round = 0;
  const { snapshot } = await watch(db, things, {
    snapshot: {
      batchSize: 20,
      async onProgress() {
        round++;
        await writer.query("update things set name = 'round ' || $1::text where id % 7 = $2", [
          round,
          round % 7,
        ]);
        await writer.query("delete from things where id = $1", [300 - round]);
        await writer.query("insert into things values ($1, 'new')", [1000 + round]);
      },
    },
  });
  assert.equal(snapshot?.done, true);
  const copy = new Map<unknown, string>();
  await new Consumer(db, {
    id: "copy",
    channels: things.channel,
    handle: things.handler((change) => {
      if (change.isDelete()) copy.delete(change.id);
      else if (!change.isTruncate()) copy.set(change.id, change.new.name);
    }),
  }).drain();
  const rows = await c.sql("select id, name from things order by id");
  assert.deepEqual(
    [...copy].sort(([a], [b]) => Number(a) - Number(b)),
    rows.map(({ id, name }) => [id, name]),
  );
});

test("a row that another session holds does not fail the snapshot, which waits for it", async (c) => {
  const db = await withThings(c, 5);
  await watch(db, things);
  const holder = await c.client();
  await holder.query("begin");
  await holder.query("update things set name = 'held' where id = 3");
  const told: number[] = [];
  const { promise: atThird, resolve } = Promise.withResolvers<void>();
  const running = watch(db, things, {
    snapshot: {
      onProgress({ published }) {
        told.push(published);
        if (published === 2) resolve();
      },
    },
  });
  await atThird;
  await holder.query("commit");
  assert.deepEqual((await running).snapshot, { published: 5, total: 5, done: true });
  const told3: string[] = [];
  await new Consumer(db, {
    id: "c",
    channels: things.channel,
    handle: things.handler((change) => {
      if (change.id === 3 && !change.isDelete()) told3.push(change.new.name);
    }),
  }).drain();
  assert.deepEqual(told3, ["held", "held"], "as an update, then as it is");
});

test("a snapshot goes on beside writers that move rows to another partition", async (c) => {
  await c.sql(
    `create table orders (id integer, status text, primary key (id, status)) partition by list (status);
    create table orders_open partition of orders for values in ('open');
    create table orders_done partition of orders for values in ('done');
    insert into orders select n, 'open' from generate_series(1, 3) n`,
  );
  await c.sql("select hark.watch('orders', snapshot => true)");
  const writer = await c.client();
  await writer.query("begin; update orders set status = 'done' where id = 2");
  const taker = await c.client();
  const taking = taker.query("select * from hark.snapshot('orders')");
  await waitsFor(writer, "hark.snapshot");
  await writer.query("commit");
  let { rows: [page] } = await taking;
  while (!page.done) {
    ({ rows: [page] } = await taker.query("select * from hark.snapshot('orders')"));
  }
  const rows = await c.sql(
    "select distinct payload -> 'new' ->> 'id' as id from hark.log where payload ->> 'action' = 'SNAPSHOT' order by 1",
  );
  assert.deepEqual(rows.map(({ id }) => id), ["1", "2", "3"]);
});
