/** Consumers that sleep while there is nothing to do, so that a server that suspends may do so. */

import assert from "node:assert/strict";
import {
  check,
  connect,
  Consumer,
  doctor,
  notify,
  pause,
  resume,
  seek,
  status,
} from "../../mod.ts";
import { output } from "../cli/_support/hark.ts";
import { killBackends, listenBackends, Running } from "../faults/_support/running.ts";
import { test, type TestContext, until, within } from "../harness/mod.ts";

const sleepy = { idle: "sleep", idleAfter: 300, retry: { initial: "1h" } } as const;

/** Waits until `count` workers of "c" sleep. */
async function asleep({ sql }: TestContext, count = 1): Promise<void> {
  await until(async () => {
    const rows = await sql("select workers from hark.sleeping() where consumer = 'c'");
    return (rows[0]?.workers ?? 0) === count;
  }, { what: `${count} to sleep` });
}

/** The sessions that the consumers of a test have open, with how many ms ago each last did anything. */
async function sessions({ sql }: TestContext): Promise<{ pid: number; quiet: number }[]> {
  return await sql(
    `select pid, extract(epoch from clock_timestamp() - state_change) * 1000 as quiet
     from pg_stat_activity where datname = current_database() and application_name <> 'hark harness'`,
  );
}

test("a consumer without work gives all back, and keeps one silent connection", async (context) => {
  const db = context.use(await connect(context.url, { heartbeat: 50 }));
  const running = context.use(new Running(db, { ...sleepy, pollInterval: 50 }));
  await asleep(context);
  await until(async () => {
    const open = await sessions(context);
    // Many heartbeats and polls long.
    return open.length === 1 && open[0]!.quiet > 1500;
  }, { what: "one silent connection" });
  assert.deepEqual(await context.sql("select from hark.workers"), []);
  assert.deepEqual(await context.sql("select from hark.processes"), []);
  assert.deepEqual(await context.sql("select from hark.partitions where owner is not null"), []);
  await context.sql("select hark.notify('c', '1')");
  await running.atLeast(1, { deadline: 2000 });
  await asleep(context);
});

test("a consumer that sleeps is not taken by a program with other channels, and loses nothing to it", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { ...sleepy, version: 1 }));
  await asleep(context);
  const other = (version: number) =>
    new Consumer(db, { id: "c", channels: "other", version, handle() {} });
  for (const wait of [true, false]) {
    await assert.rejects(other(1).drain({ wait }), {
      code: "CONFLICT",
      message: /served by worker /,
    });
  }
  await context.sql("select hark.notify('c', '1')");
  await running.atLeast(1);
  // A worker of another version that sleeps is no reason to refuse a higher one.
  await asleep(context);
  assert.equal(await other(2).drain(), 0);
});

test("what is published in the moment of falling asleep is handled", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { ...sleepy, idleAfter: 100, pollInterval: 60_000 }));
  await asleep(context);
  for (let n = 1; n <= 40; n++) {
    // From before it lies down to after it sleeps.
    await new Promise((resolve) => setTimeout(resolve, 90 + n * 2));
    await context.sql("select hark.notify('c', $1::text::jsonb)", [n]);
    await running.atLeast(n, { deadline: 5000 });
  }
});

test("a sleeping consumer wakes for what is delayed, scheduled, retried, replayed and resumed", async (context) => {
  const db = context.use(await connect(context.url));
  let fails = true;
  const running = context.use(
    new Running(db, {
      ...sleepy,
      retry: { initial: 4000 },
      handle: ({ payload }) => {
        if (payload === "retried" && fails) {
          fails = false;
          throw new Error("not yet");
        }
      },
    }),
  );
  await asleep(context);
  await notify(db, "c", "delayed", { delay: 2000 });
  await running.atLeast(1, { deadline: 5000 });
  await notify(db, "c", "retried");
  await running.atLeast(2);
  await asleep(context);
  const [next] = await context.sql(
    "select wakes_at < clock_timestamp() + interval '5 s' as soon from hark.sleeping()",
  );
  // If it fell asleep late, the retry was before that. If this look came late, it has woken for it.
  assert(
    next === undefined || next.soon || running.inbox.items.length > 2,
    "it wakes for the retry",
  );
  await running.atLeast(3, { deadline: 5000 });
  await asleep(context);
  await seek(db, "c", "beginning");
  await running.atLeast(5);
  await asleep(context);
  const since = async () => (await context.sql("select since::text from hark.asleep"))[0]?.since;
  const before = await since();
  await pause(db, "c");
  await until(async () => await since() !== before, { what: "it to have woken" });
  await asleep(context); // also while it is paused
  await notify(db, "c", "resumed");
  await resume(db, "c");
  await running.atLeast(6);
  assert.deepEqual(running.payloads, [
    "delayed",
    "retried",
    "retried",
    "delayed",
    "retried",
    "resumed",
  ]);
});

test("a consumer without LISTEN sleeps until wake() is called", async (context) => {
  const url = new URL(context.url);
  url.searchParams.set("listen", "off");
  const db = context.use(await connect(url.href));
  const running = context.use(new Running(db, { ...sleepy, pollInterval: 50 }));
  await asleep(context);
  await until(async () => (await sessions(context)).length === 0, { what: "no connection" });
  await context.sql("select hark.notify('c', '1')");
  assert.equal(running.consumer.wake(), true);
  await running.atLeast(1, { deadline: 2000 });
  await asleep(context);
  await running.stop();
  assert.equal(running.consumer.wake(), false);
  assert.deepEqual(await context.sql("select from hark.asleep"), []);
});

test("of two workers both sleep, and both wake, and each notification is handled once", async (context) => {
  const [one, other] = await Promise.all([0, 1].map(async () => {
    const db = context.use(await connect(context.url));
    return context.use(new Running(db, { ...sleepy, partitions: 2 }));
  })) as [Running, Running];
  await asleep(context, 2);
  for (let round = 1; round <= 3; round++) {
    await context.sql("select hark.notify('c', '1', n::text) from generate_series(1, 10) n");
    await until(() => one.payloads.length + other.payloads.length === 10 * round);
    await asleep(context, 2);
  }
  await one.stop();
  await asleep(context, 1);
});

test("a consumer that sleeps is not removed as inactive, and ends its sleep when it stops", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", ...sleepy, handle() {} });
  const running = consumer.run();
  await asleep(context);
  const dropped = await context.sql("select * from hark.drop_inactive(clock_timestamp())");
  assert.deepEqual(dropped, []);
  await within(consumer.stop());
  await running;
  assert.deepEqual(await context.sql("select from hark.asleep"), []);
  assert.deepEqual(await context.sql("select from hark.sleepers"), []);
});

test("a sleeping consumer is shown as asleep, and is no reason for an alarm until something is left", async (context) => {
  const db = context.use(await connect(context.url, { listen: false }));
  context.use(new Running(db, sleepy));
  await asleep(context);
  const alarms = async () => [
    ...(await doctor(db)).filter(({ consumer }) => consumer === "c").map(({ code }) => code),
    ...(await check(db)).causes.filter(({ consumer }) => consumer === "c").map(({ what }) => what),
  ];
  const [one] = (await status(db)).consumers;
  assert.deepEqual([one!.serving, one!.workers, one!.asleep?.workers], [false, 0, 1]);
  assert.equal(one!.asleep!.listening, false);
  assert(one!.asleep!.wakesAt > new Date(Date.now() + 80_000_000), "after a day");
  const args = ["status"];
  assert.match(await output(args, { url: context.url }), /:\d+\S* asleep, wakes in 2\d h/);
  assert.deepEqual(await alarms(), []);
  // Published, but no request has woken it.
  await context.sql("select hark.notify('c', '1')");
  assert.deepEqual(await alarms(), []);
  await context.sql("update hark.log set created_at = created_at - interval '5 minutes'");
  assert.deepEqual(await alarms(), ["asleep", "unserved"]);
});

test("what others publish is no backlog of a sleeping consumer that publishers wake", async (context) => {
  const db = context.use(await connect(context.url));
  context.use(new Running(db, { ...sleepy, pollInterval: 60_000 }));
  await asleep(context);
  // More than is looked through.
  await context.sql("select hark.notify('others', to_jsonb(n)) from generate_series(1, 200) n");
  await context.sql("update hark.log set created_at = created_at - interval '5 minutes'");
  const [one] = await context.sql(
    "select unread::integer, unread_capped, lag_seconds from hark.status(10, 5000, 50) where consumer = 'c'",
  );
  assert.deepEqual(one, { unread: 0, unread_capped: false, lag_seconds: 0 });
  const [{ measured }] = await context.sql(
    "select hark.measure(gen_random_uuid(), 45000, 10) #>> '{consumers, 0}' as measured",
  );
  const { lag, lag_time } = JSON.parse(measured);
  assert.deepEqual([lag, lag_time], [0, 0]);
});

test("a worker that serves is not shown as asleep, though it was never told that it had lain down", async (context) => {
  const db = context.use(await connect(context.url, { heartbeat: 50 }));
  context.use(new Running(db, { lease: 1000 }));
  await until(async () => (await context.sql("select from hark.workers")).length === 1);
  const lain = await context.sql(
    `with w as (delete from hark.workers returning consumer, owner)
    insert into hark.asleep (consumer, owner, name, wakes_at)
    select w.consumer, w.owner, 'here', clock_timestamp() + interval '1 hour' from w returning 1`,
  );
  assert.equal(lain.length, 1);
  await until(async () =>
    (await context.sql("select from hark.workers")).length === 1 &&
    (await context.sql("select from hark.asleep")).length === 0
  );
});

test("publishers do not go on waking a sleeper that was killed: cleaning removes what it left", async ({ sql, client }) => {
  const [living, killed] = [await client(), await client()];
  const keys = [4_711_001, 4_711_002];
  await living.query("select pg_advisory_lock($1::bigint)", [keys[0]]);
  await killed.query("select pg_advisory_lock($1::bigint)", [keys[1]]);
  for (const key of keys) {
    await sql("select hark.sleep(gen_random_uuid(), array['c'], $1::bigint, 86400000)", [key]);
  }
  const sessions = async () =>
    (await sql("select session from hark.sleepers order by session")).map(({ session }) =>
      Number(session)
    );
  await sql("select hark.tidy()");
  assert.deepEqual(await sessions(), keys);
  await killed.query("select pg_advisory_unlock($1::bigint)", [keys[1]]);
  await sql("select hark.tidy()");
  assert.deepEqual(await sessions(), [keys[0]]);
});

test("a sleeping consumer whose LISTEN connection is ended connects again, and loses nothing", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { ...sleepy, pollInterval: 60_000 }));
  await asleep(context);
  await killBackends(context, listenBackends);
  await context.sql("select hark.notify('c', '1')");
  await running.atLeast(1);
  await asleep(context);
  await context.sql("select hark.notify('c', '2')");
  await running.atLeast(2, { deadline: 5000 });
});
