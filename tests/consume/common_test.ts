/** Consumers of a process that stand at the live edge of the log read in common. */

import assert from "node:assert/strict";
import { connect, type ConsumerOptions, notifyMany } from "../../mod.ts";
import { CountingProxy } from "../../bench/workers/counting.ts";
import { NEVER_POLL, numbers, Running } from "../faults/_support/running.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { many, publishEach, together } from "./_support/common.ts";

/** Publishes a number on each channel c0, c1, … in one transaction, and waits until all have it. */
async function round(context: TestContext, all: readonly Running[], payload: number) {
  const counts = all.map((one) => one.inbox.items.length + 1);
  await publishEach(context, all.length, payload);
  await Promise.all(all.map((one, n) => one.atLeast(counts[n]!, { deadline: 20_000 })));
}

/** Rounds until one takes few statements: from then on they read in common. Returns how many rounds. */
async function settle(context: TestContext, all: readonly Running[], counting: CountingProxy) {
  let rounds = 0;
  await until(async () => {
    const before = counting.traffic.statements;
    await round(context, all, ++rounds);
    return counting.traffic.statements - before <= 3;
  }, { what: "a round to take three statements at most", deadline: 40_000 });
  return rounds;
}

test("a publish to a hundred consumers of a hundred channels costs a few statements", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  const all = await many(context, db, 100);
  let rounds = await settle(context, all, counting);
  // Acknowledgements and heartbeats come between. On a machine that is busy, a page may not come in time.
  await until(async () => {
    const before = counting.traffic.statements;
    for (const _ of numbers(1, 10)) await round(context, all, ++rounds);
    return counting.traffic.statements - before <= 100;
  }, { what: "ten rounds to take fewer than one statement for each consumer", deadline: 40_000 });
  for (const one of all) assert.deepEqual(one.payloads, numbers(1, rounds));
});

test("a window of many pages is read in common, each row once for each", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  const all = await many(context, db, 20, (n) => ({ channels: ["all", `c${n}`] }));
  const rounds = await settle(context, all, counting);
  let windows = 0;
  const own = (n: number) => numbers(1, 4000).filter((i) => i % 2 === 0 || i % 20 === n);
  const count = (n: number) => own(n).length;
  // On a machine that is busy, a page in common may not come in time.
  await until(async () => {
    const before = counting.traffic.statements;
    await context.sql(
      `select case when n % 2 = 0 then hark.notify('all', to_jsonb(n)) else hark.notify('c' || n % 20, to_jsonb(n)) end
       from generate_series(1, 4000) n order by n`,
    );
    windows++;
    for (const [n, one] of all.entries()) await one.atLeast(rounds + windows * count(n));
    // It would be ten pages for each of twenty.
    return counting.traffic.statements - before < 100;
  }, { what: "a window of ten pages to take less than a hundred statements", deadline: 40_000 });
  for (const [n, one] of all.entries()) {
    const expected = numbers(1, windows).flatMap(() => own(n));
    assert.deepEqual(one.payloads, [...numbers(1, rounds), ...expected]);
  }
});

test("filters, keys, numbers of partitions, and limits of their own: each gets what is its own, in order", async (context) => {
  const db = context.use(await connect(context.url));
  const kinds: Partial<ConsumerOptions>[] = [
    {},
    { partitions: 2 },
    { partitions: 5, concurrency: 3 },
    { filter: { payload: { even: true } } },
    { filter: { key: ["3"] }, partitions: 2 },
    { pageSize: 7 },
    { readAhead: 100 },
    { transactional: true },
    { transactional: true, partitions: 3 },
    { pageBytes: 1000 },
    { from: { id: 6 } },
  ];
  await context.sql("select hark.notify('c', '0') from generate_series(1, 5)");
  const all = await many(context, db, 2 * kinds.length, (n) => ({
    channels: n < kinds.length ? ["c", "d"] : n % 2 === 0 ? "c" : ["d", "e"],
    from: "now",
    ...kinds[n % kinds.length],
  }));
  const expected = all.map((): number[] => []);
  let id = 5;
  for (const n of numbers(1, 12)) {
    const rows = numbers(1, n % 6 === 0 ? 600 : 5).map(() => {
      const row = { id: ++id, channel: "cde"[id % 3]!, key: String(id % 7) };
      for (const [at, { consumer }] of all.entries()) {
        if (!consumer.channels.includes(row.channel)) continue;
        const kind = at % kinds.length;
        if (kind === 3 && id % 2 !== 0 || kind === 4 && row.key !== "3") continue;
        expected[at]!.push(row.id);
      }
      return row;
    });
    await notifyMany(
      db,
      rows.map(({ channel, key, id }) => ({
        channel,
        key,
        payload: { n: id, even: id % 2 === 0 },
      })),
    );
    for (const [at, one] of all.entries()) {
      await one.atLeast(expected[at]!.length, { deadline: 40_000 });
    }
  }
  for (const [at, one] of all.entries()) {
    const read = one.inbox.items;
    const ids = read.map(({ id }) => id);
    assert.deepEqual(ids.toSorted((a, b) => a - b), expected[at], `consumer ${at}`);
    const keys = Map.groupBy(read, ({ key }) => key);
    for (const of of keys.values()) {
      const ordered = of.toSorted((a, b) => a.id - b.id);
      assert.deepEqual(of, ordered);
    }
    const { partitions = 1, concurrency = 1 } = kinds[at % kinds.length]!;
    if (partitions === 1 && concurrency === 1) {
      assert.deepEqual(ids, expected[at]);
    }
  }
});

test("a consumer that starts among others gets what it found as replays, and what comes then not", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  const all = await many(context, db, 10);
  const rounds = await settle(context, all, counting);
  await context.sql("select hark.notify('late', to_jsonb(n)) from generate_series(1, 700) n");
  const late = context.use(
    new Running(db, { id: "late", channels: ["late", "c0"], from: "beginning" }),
  );
  await late.consumer.ready;
  for (const n of numbers(1, 10)) {
    await context.sql("select hark.notify('late', to_jsonb($1::int))", [700 + n]);
    await round(context, all, rounds + n);
    await late.atLeast(rounds + 700 + 2 * n);
  }
  const replayed = late.inbox.items.filter(({ isReplay }) => isReplay);
  assert.equal(replayed.length, rounds + 700);
  assert.deepEqual(
    late.inbox.items.filter(({ channel }) => channel === "late").map(({ payload }) => payload),
    numbers(1, 710),
  );
  for (const one of all) {
    assert.deepEqual(one.payloads, numbers(1, rounds + 10));
    assert(one.inbox.items.every(({ isReplay }) => !isReplay));
  }
});

test("what was published while all were stopped are replays for each", async (context) => {
  const db = context.use(await connect(context.url));
  const first = await many(context, db, 10);
  let last = await together(context, first);
  for (const one of first) await one.stop();
  const missed = last;
  for (const _ of numbers(1, 3)) await publishEach(context, 10, ++last);
  const all = numbers(0, 9).map((n) =>
    context.use(new Running(db, { id: `c${n}`, channels: `c${n}`, pollInterval: NEVER_POLL }))
  );
  for (const { consumer } of all) await consumer.ready;
  for (const one of all) await one.atLeast(3);
  for (const _ of numbers(1, 3)) {
    await publishEach(context, 10, ++last);
    for (const one of all) await one.atLeast(last - missed);
  }
  for (const one of all) {
    assert.deepEqual(one.payloads, numbers(missed + 1, last));
    assert.deepEqual(one.inbox.items.map(({ isReplay }) => isReplay), [
      ...numbers(1, 3).map(() => true),
      ...numbers(1, 3).map(() => false),
    ]);
  }
});

test("one that began behind an id is not given what commits late below it, and the others are", async (context) => {
  const db = context.use(await connect(context.url));
  const late = await context.client();
  await late.query("begin");
  const { rows: [row] } = await late.query("select hark.notify('c', '\"late\"') as id");
  const from = { id: Number(row.id) + 1 };
  const all = await many(context, db, 10, (n) => ({
    channels: ["c", `c${n}`],
    ...n % 2 === 0 ? { from } : {},
  }));
  const last = await together(context, all);
  await late.query("commit");
  await publishEach(context, 10, last + 1);
  for (const [n, one] of all.entries()) await one.atLeast(last + 1 + n % 2);
  await publishEach(context, 10, last + 2);
  for (const [n, one] of all.entries()) {
    await one.atLeast(last + 2 + n % 2);
    const own = one.payloads.filter((payload) => payload !== "late");
    assert.deepEqual(own, numbers(1, last + 2));
    assert.equal(one.payloads.length - own.length, n % 2, `consumer ${n}`);
  }
});
