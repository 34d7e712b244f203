/** The live edge of the log: one reader for all subscriptions of a process that stand there. */

import assert from "node:assert/strict";
import { connect, type Database, type Notification, notifyMany, subscribe } from "../../mod.ts";
import { CountingProxy } from "../../bench/workers/counting.ts";
import { NEVER_POLL, numbers, publish, Reading } from "../faults/_support/running.ts";
import { deferred, test, type TestContext, until, within } from "../harness/mod.ts";

/** Subscriptions to channels, which are ready. */
async function readers(
  context: TestContext,
  db: Database,
  channels: readonly (string | readonly string[])[],
): Promise<Reading[]> {
  const all = channels.map((channel, n) => {
    const ready = deferred(`subscription ${n} to be ready`);
    const onReady = () => ready.resolve();
    return { ready, one: new Reading(db, channel, { pollInterval: NEVER_POLL, onReady }) };
  });
  return await Promise.all(all.map(async ({ ready, one }) => {
    context.use(one);
    await ready.wait();
    return one;
  }));
}

/** Publishes one number on each channel, and waits until all have it. */
async function round(
  { sql }: TestContext,
  channels: readonly string[],
  readings: readonly Reading[],
): Promise<void> {
  const count = readings[0]!.inbox.items.length + 1;
  await sql("select hark.notify(c, to_jsonb($1::int)) from unnest($2::text[]) c", [
    count,
    channels,
  ]);
  for (const one of readings) await one.inbox.atLeast(count);
}

test("subscriptions at the live edge are read for by one, whatever their number", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  const all = await readers(context, db, numbers(0, 99).map((n) => `c${n % 5}`));
  const channels = numbers(0, 4).map((n) => `c${n}`);
  // Each falls asleep first.
  await until(async () => {
    const before = counting.traffic.statements;
    await round(context, channels, all);
    return counting.traffic.statements - before <= 12;
  }, { what: "a round to take twelve statements at most" });
  // Where rounds are slow, some fall asleep again between two.
  await until(async () => {
    const before = counting.traffic.statements;
    for (let n = 0; n < 5; n++) await round(context, channels, all);
    return counting.traffic.statements - before < 100;
  }, { what: "five rounds with fewer statements than one for each subscription" });
  const expected = numbers(1, all[0]!.inbox.items.length);
  for (const one of all) assert.deepEqual(one.payloads, expected);
});

test("200 subscriptions hold four connections at most", async (context) => {
  const db = context.use(await connect(context.url));
  const channels = numbers(0, 199).map((n) => `c${n}`);
  const all = await readers(context, db, channels);
  const sessions = async () => {
    const [{ count }] = await context.sql(
      "select count(*)::int as count from pg_stat_activity where application_name = $1",
      [context.appName],
    );
    return count;
  };
  // Those that were opened for the start close when they have had nothing to do.
  await until(async () => await sessions() <= 4, { what: "four connections at most" });
  await round(context, channels, all);
  await until(async () => await sessions() <= 4, { what: "four connections at most" });
});

test("a subscription that is slow loses its place, and holds up no other", async (context) => {
  const db = context.use(await connect(context.url));
  const gate = deferred("the gate to be opened");
  const [slowReady, slowHas] = [deferred("it to be ready"), deferred("it to read")];
  const slow: number[] = [];
  const stop = new AbortController();
  const reading = (async () => {
    const options = { onReady: () => slowReady.resolve(), signal: stop.signal };
    for await (const { payload } of subscribe(db, ["a", "b"], options)) {
      slow.push(payload);
      slowHas.resolve();
      await gate.wait();
    }
  })();
  await slowReady.wait();
  const [quick] = await readers(context, db, [["a", "b"]]);
  await context.sql("select hark.notify('a', '1')");
  await slowHas.wait();
  for (let part = 0; part < 10; part++) {
    await notifyMany(
      db,
      numbers(2, 401).map((n) => ({ channel: n % 2 === 0 ? "a" : "b", payload: part * 400 + n })),
    );
    await quick!.inbox.atLeast(1 + (part + 1) * 400);
  }
  assert.deepEqual(slow, [1]);
  gate.resolve();
  await until(() => slow.length >= 4001);
  assert.deepEqual(slow, numbers(1, 4001));
  assert.deepEqual(quick!.payloads, numbers(1, 4001));
  // It has its place again.
  await context.sql("select hark.notify('a', '4002')");
  await until(() => slow.length === 4002);
  stop.abort();
  await within(reading);
});

test("a window of many pages is read on though the one that began it stops", async (context) => {
  const db = context.use(await connect(context.url));
  const stop = new AbortController();
  const ready = deferred("it to be ready");
  const first = (async () => {
    const options = { onReady: () => ready.resolve(), signal: stop.signal };
    for await (const _ of subscribe(db, "a", options)) break;
  })();
  await ready.wait();
  const [other, third] = await readers(context, db, ["b", ["a", "b"]]);
  await notifyMany(
    db,
    numbers(1, 5000).map((n) => ({ channel: n <= 4000 ? "a" : "b", payload: n })),
  );
  await within(first);
  await other!.inbox.atLeast(1000);
  await third!.inbox.atLeast(5000);
  assert.deepEqual(other!.payloads, numbers(4001, 5000));
  assert.deepEqual(third!.payloads, numbers(1, 5000));
});

/** One that reads some time, leaves, and goes on from its last position, with other speeds. */
async function wander(
  db: Database,
  channels: string[],
  last: number,
  random: () => number,
): Promise<Notification[]> {
  const seen: Notification[] = [];
  const isOver = () =>
    channels.every((c) => seen.some((n) => n.channel === c && n.payload === last));
  for (let position: string | undefined; !isOver();) {
    const leaveAt = seen.length + Math.ceil(random() * 400);
    const slowness = random() < 0.3 ? 5 : 0;
    const from = position === undefined ? "beginning" : { position };
    for await (const n of subscribe(db, channels, { from })) {
      seen.push(n);
      position = n.position;
      if (random() < 0.05) await new Promise((go) => setTimeout(go, slowness));
      if (seen.length >= leaveAt || isOver()) break;
    }
  }
  return seen;
}

test("subscriptions that come, go and lag under load lose nothing and repeat nothing", async (context) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  let state = seed;
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const db = context.use(await connect(context.url));
  const channels = numbers(0, 4).map((n) => `c${n}`);
  const last = 1_000_000;
  const wanderers = numbers(0, 29).map((n) =>
    wander(
      db,
      n % 3 === 0 ? [channels[n % 5]!, channels[(n + 1) % 5]!] : [channels[n % 5]!],
      last,
      random,
    )
  );
  const writers = await Promise.all(numbers(0, 3).map(() => context.client()));
  await Promise.all(writers.map(async (client, w) => {
    for (let n = 0; n < 70; n++) {
      await client.query("begin");
      const count = random() < 0.02 ? 1500 : 1 + Math.floor(random() * 5);
      await client.query(
        `select hark.notify('c' || (random() * 4.99 - 0.5)::int, to_jsonb($1::int + i))
        from generate_series(1, $2::int) i`,
        [(w * 70 + n) * 1500, count],
      );
      if (random() < 0.3) await new Promise((go) => setTimeout(go, random() * 30));
      await client.query(random() < 0.1 ? "rollback" : "commit");
    }
  }));
  await context.sql("select hark.notify(c, to_jsonb($1::int)) from unnest($2::text[]) c", [
    last,
    channels,
  ]);
  for (const [n, seen] of (await within(Promise.all(wanderers), { deadline: 60_000 })).entries()) {
    const own = n % 3 === 0 ? [channels[n % 5]!, channels[(n + 1) % 5]!] : [channels[n % 5]!];
    const rows = await context.sql("select id from hark.log where channel = any($1) order by id", [
      own,
    ]);
    assert.deepEqual(
      seen.map(({ id }) => id).sort((a, b) => a - b),
      rows.map(({ id }) => Number(id)),
      `subscription ${n}, seed ${seed}`,
    );
  }
});

test("a subscription from an id gets none below it, though one of them commits late", async (context) => {
  const db = context.use(await connect(context.url));
  const late = await context.client();
  await late.query("begin");
  await late.query("select hark.notify('c', '1')");
  await publish(context, 2, 4);
  const options = { from: { id: 3 }, pollInterval: NEVER_POLL };
  const reading = context.use(new Reading(db, "c", options));
  await reading.inbox.atLeast(2);
  // It has caught up with the edge.
  await publish(context, 5, 6);
  await reading.inbox.atLeast(4);
  await late.query("commit");
  await publish(context, 7, 7);
  await until(() => reading.payloads.includes(7));
  assert.deepEqual(reading.payloads, [3, 4, 5, 6, 7]);
});
