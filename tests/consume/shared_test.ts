import assert from "node:assert/strict";
import { connect, Consumer, notifyMany, subscribe } from "../../mod.ts";
import { deferred, Inbox, patient, test, type TestContext, until } from "../harness/mod.ts";
import { logged, said, sentence } from "../faults/_support/logs.ts";
import {
  Gate,
  NEVER_POLL,
  numbers,
  publish,
  Reading,
  Running,
} from "../faults/_support/running.ts";
import { CountingProxy } from "../../bench/workers/counting.ts";
import { role } from "../schema/_support/role.ts";

/** How many sessions a program has in the test's database. */
async function sessions({ sql, appName }: TestContext): Promise<number> {
  const [row] = await sql(
    "select count(*)::int as count from pg_stat_activity where application_name = $1",
    [appName],
  );
  return row.count;
}

/** Consumers c0, c1, … of channels of their own. */
function many(context: TestContext, db: Awaited<ReturnType<typeof connect>>, count: number) {
  return numbers(0, count - 1).map((n) =>
    context.use(new Running(db, { id: `c${n}`, channels: `c${n}`, pollInterval: NEVER_POLL }))
  );
}

test("ten consumers and thirty subscriptions of a process share their connections", async (context) => {
  const db = context.use(await connect(context.url));
  const consumers = many(context, db, 10);
  const ready: Promise<void>[] = consumers.map(({ consumer }) => consumer.ready);
  const readings = numbers(0, 29).map((n) => {
    const one = deferred(`subscription ${n} to be ready`);
    ready.push(one.wait());
    return context.use(
      new Reading(db, `c${n % 10}`, { pollInterval: NEVER_POLL, onReady: () => one.resolve() }),
    );
  });
  await Promise.all(ready);
  // LISTEN, one of the pool, and on a machine that is busy up to eight that they share.
  assert(await sessions(context) <= 10);
  await notifyMany(db, numbers(0, 9).map((n) => ({ channel: `c${n}`, payload: n })));
  for (const one of consumers) await one.atLeast(1);
  for (const one of readings) await one.inbox.atLeast(1);
  assert.deepEqual(readings.map((one) => one.payloads), numbers(0, 29).map((n) => [n % 10]));
});

test("ten consumers of a role with five connections all handle, and it is said once", async (context) => {
  const { name, url } = await role(context);
  await context.sql("select hark.grant_publish($1), hark.grant_consume($1)", [name]);
  await context.sql(`alter role ${name} connection limit 5`);
  const since = Date.now();
  const db = context.use(await connect(url, { poolSize: 4, heartbeat: 200 }));
  const seen = new Inbox<number>();
  const consumers = numbers(0, 9).map((n) => {
    const transactional = n % 2 === 0;
    return context.use(
      new Running(db, {
        id: `c${n}`,
        channels: "c",
        transactional,
        async handle({ payload }, context) {
          // More queries at once than the role has connections.
          await db.query("select pg_sleep(0.01)");
          if (transactional) await context.tx.query("select 1");
          seen.push(payload as number);
        },
      }),
    );
  });
  await publish(context, 1, 20);
  await seen.atLeast(200, { deadline: 40_000 });
  for (const one of consumers) {
    assert.deepEqual(one.payloads, numbers(1, 20));
    assert(!one.over, "it still runs");
  }
  await said("warning", /gives this program no more connections/, since);
  const times = logged.items.filter((record) =>
    record.timestamp >= since && /no more connections/.test(sentence(record))
  );
  assert.equal(times.length, 1);
});

test("a page that takes long, and a handler that hangs, delay no other consumer", async (context) => {
  const db = context.use(await connect(context.url, { readerTimeout: patient(20_000) }));
  const others = many(context, db, 8);
  for (const { consumer } of others) await consumer.ready;
  const gate = new Gate(1);
  context.use(
    new Running(db, { id: "hanging", channels: "hang", transactional: true, handle: gate.handle }),
  );
  await context.sql("select hark.notify('hang', '1')");
  await gate.reached();
  // Its pages wait for this lock, as if each took long.
  const client = await context.client();
  const slow = context.use(new Running(db, { id: "slow", channels: "slow", pollInterval: 100 }));
  await slow.consumer.ready;
  await client.query("begin");
  await client.query(
    "select from hark.partitions where consumer = 'slow' for update",
  );
  await context.sql("select hark.notify('slow', '1')");
  for (const round of numbers(1, 5)) {
    await notifyMany(db, numbers(0, 7).map((n) => ({ channel: `c${n}`, payload: round })));
    for (const one of others) await one.atLeast(round, { deadline: 2000 });
  }
  await client.query("rollback");
  gate.open();
  await slow.atLeast(1);
});

test("a connection that is lost interrupts those that were using it, and all go on", async (context) => {
  const db = context.use(await connect(context.url));
  const consumers = many(context, db, 30);
  for (const { consumer } of consumers) await consumer.ready;
  for (const round of numbers(1, 3)) {
    await context.sql(
      "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1",
      [context.appName],
    );
    await notifyMany(db, numbers(0, 29).map((n) => ({ channel: `c${n}`, payload: round })));
    for (const one of consumers) await one.atLeast(round);
  }
  for (const one of consumers) assert.deepEqual(one.payloads, [1, 2, 3]);
  // Those that were lost, and one that has proved LISTEN, may still be closing.
  await until(async () => await sessions(context) <= 12, { what: "twelve connections at most" });
});

test("a consumer that is removed ends alone", async (context) => {
  const db = context.use(await connect(context.url));
  const consumers = many(context, db, 5);
  for (const { consumer } of consumers) await consumer.ready;
  const gone = new Consumer(db, { id: "gone", channels: "c", handle() {} });
  const running = gone.run();
  await gone.ready;
  await context.sql("select hark.remove_consumer('gone')");
  await assert.rejects(running, { code: "NO_CONSUMER" });
  await notifyMany(db, numbers(0, 4).map((n) => ({ channel: `c${n}`, payload: n })));
  for (const one of consumers) await one.atLeast(1);
});

test("the consumers of a process renew one lease, in one statement", async (context) => {
  const db = context.use(await connect(context.url));
  const consumers = many(context, db, 20);
  for (const { consumer } of consumers) await consumer.ready;
  const [row] = await context.sql(
    `select count(*)::int as workers, count(distinct process)::int as processes,
      (select count(*)::int from hark.processes) as leases from hark.workers`,
  );
  assert.deepEqual(row, { workers: 20, processes: 1, leases: 1 });
  // A lease of another length, and a second run of a consumer, have leases of their own.
  const other = context.use(new Running(db, { id: "other", lease: 20_000 }));
  const again = context.use(new Running(db, { id: "c0", channels: "c0" }));
  await Promise.all([other.consumer.ready, again.consumer.ready]);
  const leases = () => context.sql("select lease_until from hark.processes");
  assert.equal((await leases()).length, 3);
  await Promise.all([other.stop(), again.stop()]);
  assert.equal((await leases()).length, 1);
  const [{ lease_until: before }] = await leases();
  await consumers[0]!.stop();
  // It goes on without the one that has stopped.
  await until(async () => (await leases())[0].lease_until > before);
  assert.equal((await context.sql("select from hark.workers")).length, 19);
});

test("a handler whose transaction never commits keeps no other consumer from storing its progress", async (context) => {
  const db = context.use(await connect(context.url));
  const options = { acknowledgeInterval: 20 };
  const consumers = numbers(0, 9).map((n) =>
    context.use(new Running(db, { id: `c${n}`, channels: "c", ...options }))
  );
  for (const { consumer } of consumers) await consumer.ready;
  const client = await context.client();
  await client.query("begin");
  await client.query("select from hark.partitions where consumer = 'c3' for share");
  await publish(context, 1, 20);
  for (const [n, one] of consumers.entries()) if (n !== 3) await one.atLeast(20);
  const stored = () =>
    context.sql("select consumer from hark.partitions where handled >= 20 order by consumer");
  await until(async () => (await stored()).length === 9);
  assert(!(await stored()).some(({ consumer }) => consumer === "c3"));
  await client.query("rollback");
  await until(async () => (await stored()).length === 10, { deadline: 30_000 });
  await consumers[3]!.atLeast(20, { deadline: 30_000 });
  // If that took longer than a query may take, c3 has claimed its partition again, and repeats.
  for (const [n, one] of consumers.entries()) {
    assert.deepEqual(n === 3 ? [...new Set(one.payloads)] : one.payloads, numbers(1, 20));
  }
});

test("a process with nothing to do asks one question a poll, whatever it serves", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  const consumers = numbers(0, 49).map((n) =>
    context.use(new Running(db, { id: `c${n}`, channels: `c${n}`, pollInterval: 1000 }))
  );
  for (const { consumer } of consumers) await consumer.ready;
  // Each is woken and reads to a mark of its own.
  await notifyMany(db, numbers(0, 49).map((n) => ({ channel: `c${n}`, payload: n })));
  for (const one of consumers) await one.atLeast(1);
  const renewed = async () =>
    (await context.sql("select lease_until from hark.processes"))[0].lease_until;
  // They fall asleep first. Between two renewals of the lease, three seconds, there are then three questions at
  // most, and what renews their sleep.
  let [count, lease] = [Infinity, await renewed()];
  await until(async () => {
    const now = await renewed();
    if (now <= lease) return false;
    const before = count;
    [count, lease] = [counting.traffic.statements, now];
    return count - before <= 8;
  }, { deadline: 50_000, what: "eight statements at most from one renewal to the next" });
  const [{ id }] = await context.sql("select hark.notify('c7') as id");
  await consumers[7]!.atLeast(2);
  assert.equal(consumers[7]!.inbox.items[1]!.id, Number(id));
});

test("a subscription that is left without being read holds no connection", async (context) => {
  const db = context.use(await connect(context.url));
  const stop = new AbortController();
  const iterator = subscribe(db, "c", { from: "beginning", signal: stop.signal });
  await publish(context, 1, 3);
  await iterator.next();
  const running = context.use(new Running(db, {}));
  await running.atLeast(3);
  stop.abort();
  await iterator.return(undefined);
});
