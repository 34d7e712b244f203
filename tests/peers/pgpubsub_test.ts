/**
 * What the own tests of django-pgpubsub promise to its users, where no other test here says the same.
 *
 * @module
 */

import assert from "node:assert/strict";
import { z } from "npm:zod@4.6.7";
import {
  channel,
  connect,
  Consumer,
  deadLetters,
  notify,
  on,
  setContext,
  watch,
  watched,
} from "../../mod.ts";
import { test, until } from "../harness/mod.ts";

test("each new author gets a first post: after a commit, of a bulk insert too, and not after a rollback", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql("create table authors (id integer primary key, name text)");
  await c.sql("create table posts (author integer, content text)");
  const authors = watched<{ id: number; name: string }>("public.authors");
  await watch(db, authors);
  await c.sql("insert into authors values (1, 'Billy')");
  await db.transaction(async (tx) => {
    await tx.query("insert into authors values (2, 'Billy'), (3, 'Craig')");
  });
  await assert.rejects(db.transaction(async (tx) => {
    await tx.query("insert into authors values (4, 'eve')");
    throw new Error("rolled back");
  }));
  const firstPosts = new Consumer(db, {
    id: "first-posts",
    channels: authors.channel,
    transactional: true,
    handle: authors.handler(async (change, { tx }) => {
      if (change.isInsert()) {
        await tx.query("insert into posts values ($1, $2)", [change.new.id, change.new.name]);
      }
    }),
  });
  assert.equal(await firstPosts.drain(), 3);
  assert.deepEqual(await c.sql("select * from posts order by author"), [
    { author: 1, content: "Billy" },
    { author: 2, content: "Billy" },
    { author: 3, content: "Craig" },
  ]);
});

test("a program that publishes what it reads has the reads counted, and the log keeps them", async (c) => {
  const db = c.use(await connect(c.url));
  const read = channel("posts.read", z.object({ post: z.int(), date: z.iso.date() }));
  for (const post of [1, 2, 1]) await read.notify(db, { post, date: "2026-11-29" });
  const reads = new Map<string, number>();
  const counting = new Consumer(db, {
    id: "reads",
    handle: on(read, ({ post, date }) => {
      reads.set(`${date} ${post}`, (reads.get(`${date} ${post}`) ?? 0) + 1);
    }),
  });
  await counting.drain();
  assert.deepEqual([...reads], [["2026-11-29 1", 2], ["2026-11-29 2", 1]]);
  assert.equal((await c.sql("select from hark.log")).length, 3);
});

test("five good ones among four broken ones are handled after an absence, and the broken ones are kept", async (c) => {
  const db = c.use(await connect(c.url));
  for (const good of [true, true, false, true, false, false, false, true, true]) {
    await notify(db, "authors", good ? { app: "tests" } : {});
  }
  const handled: number[] = [];
  const consumer = new Consumer<{ app?: string }>(db, {
    id: "recovering",
    channels: "authors",
    maxAttempts: 1,
    handle({ id, payload }) {
      if (payload.app === undefined) throw new Error("has no app");
      handled.push(id);
    },
  });
  assert.equal(await consumer.drain(), 5);
  assert.deepEqual(handled, [1, 2, 4, 8, 9]);
  assert.deepEqual((await deadLetters(db)).map(({ id }) => id), [3, 5, 6, 7]);
});

test("lists, tuples, sets, tables by date and nested dates come back as what they were, with defaults", async (c) => {
  const db = c.use(await connect(c.url));
  const date = z.iso.date().transform((text) => new Date(text));
  const schema = z.object({
    dates: z.array(date),
    ratings: z.array(z.number()).transform((all) => new Set(all)),
    pair: z.tuple([z.string(), z.string()]),
    holidays: z.array(z.tuple([date, z.boolean()])).transform((all) => new Map(all)),
    chosen: z.record(z.string(), z.iso.datetime().transform((text) => new Date(text))),
    rate: z.number().default(0.5),
    note: z.string().optional(),
  });
  const report = channel("reports", schema);
  await report.notify(db, {
    dates: ["2021-01-01", "2021-01-02"],
    ratings: [1, 2.1],
    pair: ["hello", "world"],
    holidays: [["2021-01-07", true], ["2021-01-17", false]],
    chosen: { first: "2021-01-01T09:30:00Z" },
  });
  const got: z.output<typeof schema>[] = [];
  await new Consumer(db, { id: "reading", handle: on(report, (one) => void got.push(one)) })
    .drain();
  assert.deepEqual(got, [{
    dates: [new Date("2021-01-01"), new Date("2021-01-02")],
    ratings: new Set([1, 2.1]),
    pair: ["hello", "world"],
    holidays: new Map([[new Date("2021-01-07"), true], [new Date("2021-01-17"), false]]),
    chosen: { first: new Date("2021-01-01T09:30:00Z") },
    rate: 0.5,
  }]);
});

test("a row published before a column was dropped is read by the new schema; a decimal keeps its digits", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql(`create table posts (id integer primary key, content text, date timestamptz,
    rating numeric, old_field text)`);
  const row = z.object({
    id: z.int(),
    content: z.string(),
    date: z.iso.datetime({ offset: true, local: true }).transform((text) => new Date(text)),
    rating: z.number(),
  });
  const posts = watched("public.posts", { row });
  await watch(db, posts);
  await c.sql(`insert into posts values
    (1, 'first', '2026-11-29T12:00:00Z', 1.1, 'foo'),
    (2, 'second', '2026-11-29T12:00:00Z', 12345678901234567890.12, 'foo')`);
  await c.sql("alter table posts drop column old_field");
  const got: unknown[] = [];
  const texts: string[] = [];
  const consumer = new Consumer(db, {
    id: "reading",
    channels: posts.channel,
    async handle(notification) {
      const change = await posts.change(notification);
      if (!change.truncated && change.isInsert()) got.push(change.new);
      texts.push(notification.payloadText);
    },
  });
  assert.equal(await consumer.drain(), 2);
  assert.deepEqual(got[0], {
    id: 1,
    content: "first",
    date: new Date("2026-11-29T12:00:00Z"),
    rating: 1.1,
  });
  const digits = JSON.parse(
    texts[1]!,
    (_key, value, at?: { source: string }) => typeof value === "number" ? at!.source : value,
  );
  assert.equal(digits.new.rating, "12345678901234567890.12");
});

test("a class between sets one filter for all consumers of a program, for live and for missed ones", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql("create table authors (id integer primary key)");
  await watch(db, "public.authors");
  const insert = (id: number, tenant?: string) =>
    db.transaction(async (tx) => {
      if (tenant !== undefined) await setContext(tx, { tenant });
      await tx.query("insert into authors values ($1)", [id]);
    });
  const handled: string[] = [];
  class OfTenant extends Consumer {
    override channels = "public.authors";
    override filter = { headers: { tenant: "a" } };
    override handle({ key }: { key: string | null }): void {
      handled.push(`${this.id} ${key}`);
    }
  }
  class Mail extends OfTenant {
    override id = "mail";
  }
  class Billing extends OfTenant {
    override id = "billing";
  }
  await insert(1);
  await insert(2, "a");
  await insert(3, "b");
  const consumers = [new Mail(db), new Billing(db)];
  for (const one of consumers) await one.drain(); // what was missed
  const running = consumers.map((one) => one.run());
  for (const one of consumers) await one.ready;
  await insert(4, "b");
  await insert(5, "a");
  await until(() => Promise.resolve(handled.length === 4));
  for (const one of consumers) await one.stop();
  await Promise.all(running);
  assert.deepEqual(handled.toSorted(), ["billing 2", "billing 5", "mail 2", "mail 5"]);
});

test("after an error in a transaction its context is refused like any statement, and nothing is left", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql("create table media (id integer primary key)");
  await watch(db, "public.media");
  await assert.rejects(
    db.transaction(async (tx) => {
      await tx.query("no statement").catch(() => {});
      await setContext(tx, { by: "me" });
    }),
    /transaction is aborted/,
  );
  await db.query("insert into media values (1)");
  assert.deepEqual(await c.sql("select headers ->> 'by' as by from hark.log"), [{ by: null }]);
});
