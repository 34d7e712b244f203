import assert from "node:assert/strict";
import { cleanup, connect, Consumer, consumers, notifyMany, pause, status } from "../../mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { ByHand, odd } from "./_support/by_hand.ts";

const all = new Date(Date.now() + 3_600_000);

async function age({ sql }: TestContext, days: number): Promise<void> {
  await sql("update hark.log set created_at = created_at - $1::int * interval '1 day'", [days]);
}

test("status warns of consumers that hold back old notifications, with the reasons", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  for (const name of ["failing", "gone", "paused", "fine"]) {
    await sql("select hark.register($1, array['c'])", [name]);
  }
  await sql("select hark.notify('c') from generate_series(1, 3)");
  await age(context, 10);
  assert.deepEqual((await status(db, { warnAfter: "11d" })).warnings, []);
  for (const name of ["fine", "failing"]) {
    const worker = new ByHand(await client(), name);
    await worker.claim();
    await worker.read();
    await worker.acknowledge(
      name === "fine"
        ? []
        : [{ kind: "wait", id: 2, partition: 0, state: "failed", attempts: 1, error: "x" }],
    );
  }
  const slow = new ByHand(await client(), "paused");
  await slow.claim();
  await pause(db, "paused");
  const { warnings } = await status(db);
  assert.deepEqual(warnings.map(({ consumer, reasons }) => [consumer, reasons]), [
    ["gone", ["behind", "inactive"]],
    ["paused", ["behind", "paused"]],
    ["failing", ["waiting"]],
  ]);
  assert(Math.abs(Date.now() - warnings[0]!.oldest.getTime() - 10 * 86_400_000) < 60_000);
  for (const warnAfter of [-1, NaN, "7", 100_001 * 86_400_000]) {
    await assert.rejects(status(db, { warnAfter: warnAfter as number }), { code: "BAD_OPTION" });
  }
});

test("a worker that only has nothing to read is no reason to warn", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register('r', array['rare'])");
  await new ByHand(await client(), "r", ["rare"]).claim();
  await sql("select hark.notify('common') from generate_series(1, 3)");
  await age(context, 10);
  assert.deepEqual((await status(db)).warnings, []);
  const { keptFor } = await cleanup(db, { olderThan: "1d" });
  assert.deepEqual(keptFor.map(({ reasons }) => reasons), [["behind"]]);
});

test("cleanup keeps what waits to be tried again, also when forced, unless there is a copy", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register('r', array['c'])");
  await sql("select hark.notify('c') from generate_series(1, 5)");
  const worker = new ByHand(await client(), "r");
  await worker.claim();
  await worker.read();
  await worker.acknowledge([
    { kind: "wait", id: 2, partition: 0, state: "failed", attempts: 1, error: "x" },
    { kind: "wait", id: 3, partition: 0, state: "behind", attempts: 0 },
  ]);
  await sql(
    "insert into hark.waiting (consumer, id, partition, state, channel, payload) values ('r', 4, 0, 'retry', 'c', '1')",
  );
  const left = async () =>
    (await sql("select id::int from hark.log order by id")).map(({ id }) => id);
  assert.equal((await cleanup(db, { olderThan: all, dryRun: true })).removed, 3);
  const result = await cleanup(db, { olderThan: all });
  assert.deepEqual([result.removed, result.kept], [3, 2]);
  assert.deepEqual(result.keptFor.map(({ reasons }) => reasons), [["waiting"]]);
  await cleanup(db, { olderThan: all, force: true });
  assert.deepEqual(await left(), [2, 3]);
  await worker.acknowledge([{ kind: "end", id: 2 }, { kind: "end", id: 3 }]);
  assert.equal((await cleanup(db, { olderThan: all })).kept, 0);
  assert.deepEqual(await left(), []);
});

test("cleanup forgets workers that ended long ago, but not when a consumer was served last", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await sql("select hark.register('r', array['c'])");
  await sql(`with p as (insert into hark.processes (id, lease_until)
      select gen_random_uuid(), now() - n * interval '2 hours' from generate_series(0, 3) n returning id)
    insert into hark.workers (consumer, owner, process) select 'r', p.id, p.id from p`);
  await cleanup(db, { olderThan: "1d", dryRun: true });
  assert.equal((await sql("select count(*)::int as n from hark.workers"))[0].n, 4);
  await cleanup(db, { olderThan: "1d" });
  assert.equal((await sql("select count(*)::int as n from hark.workers"))[0].n, 1);
  await sql("update hark.processes set lease_until = now() - interval '5 hours'");
  await cleanup(db, { olderThan: "1d" });
  assert.equal((await sql("select count(*)::int as n from hark.workers"))[0].n, 1);
});

test("consumers that no worker has served for long are removed where that is asked, never others", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  const names = ["acked", "leased", "live", "new", odd, "served"];
  for (const name of names) await sql("select hark.register($1, array['c'])", [name]);
  await sql("select hark.notify('c') from generate_series(1, 4)");
  await new ByHand(await client(), "live").claim();
  const long = "now() - interval '100 days'";
  await sql(`update hark.consumers set created_at = ${long} where name <> 'new'`);
  await sql(`update hark.partitions set served_at = ${long}`);
  await sql(
    "update hark.partitions set served_at = now() - interval '3 days' where consumer = 'served'",
  );
  await sql(
    "update hark.partitions set acknowledged_at = now() - interval '3 days' where consumer = 'acked'",
  );
  await sql(
    `with p as (insert into hark.processes (id, lease_until)
      values (gen_random_uuid(), now() - interval '3 days') returning id)
    insert into hark.workers (consumer, owner, process) select 'leased', p.id, p.id from p`,
  );
  const before = Date.now() - 99 * 86_400_000;
  const dry = await cleanup(db, { olderThan: all, dropInactive: "90d", dryRun: true });
  assert.deepEqual(dry.dropped.map(({ consumer }) => consumer), [odd]);
  assert(dry.dropped[0]!.lastServed.getTime() < before);
  assert.equal((await consumers(db)).length, 6);
  assert.deepEqual(
    (await cleanup(db, { olderThan: all, dropInactive: "2d", dryRun: true })).dropped.map((one) =>
      one.consumer
    ),
    ["acked", odd, "leased", "served"],
  );
  const done = await cleanup(db, { olderThan: all, dropInactive: "90d" });
  assert.deepEqual(done.dropped.map(({ consumer }) => consumer), [odd]);
  assert.equal(done.removed, 0);
  const rest = await cleanup(db, { olderThan: all, dropInactive: 0 });
  assert.deepEqual(rest.dropped.map(({ consumer }) => consumer), [
    "acked",
    "leased",
    "new",
    "served",
  ]);
  assert.deepEqual((await consumers(db)).map(({ consumer }) => consumer), ["live"]);
  for (const dropInactive of [-1, NaN, "90", null, Infinity]) {
    await assert.rejects(
      cleanup(db, { olderThan: "1d", dropInactive: dropInactive as number }),
      { code: "BAD_OPTION" },
    );
  }
});

test("a dry run counts what the run then removes, also if consumers have nothing to read there", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", from: "beginning", handle() {} });
  await consumer.drain();
  await notifyMany(db, Array.from({ length: 500 }, (_, n) => ({ channel: "other", payload: n })));
  await context.sql("select hark.cut()");
  const { removed, kept, keptFor } = await cleanup(db, { olderThan: 0, dryRun: true });
  assert.deepEqual([removed, kept, keptFor], [500, 0, []]);
  const run = await cleanup(db, { olderThan: 0, exact: true });
  assert.deepEqual([run.removed, run.kept], [removed, kept]);
});

test("a dry run counts what would go with the consumers that would", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await sql("select hark.register('gone', array['c'])");
  await sql("select hark.notify('c') from generate_series(1, 4)");
  const dry = await cleanup(db, { olderThan: all, dropInactive: 0, dryRun: true });
  assert.deepEqual([dry.removed, dry.kept, dry.keptFor], [4, 0, []]);
  const done = await cleanup(db, { olderThan: all, dropInactive: 0 });
  assert.deepEqual([done.removed, done.kept], [4, 0]);
});

test("a worker that joins while its consumer is being dropped keeps it", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register('r', array['c'])");
  const session = await client();
  await session.query("begin");
  await new ByHand(session, "r").claim();
  const dropping = cleanup(db, { olderThan: all, dropInactive: 0 });
  await until(async () =>
    (await sql(
      "select from pg_stat_activity where datname = current_database() " +
        "and wait_event_type = 'Lock' and query ~ 'drop_inactive'",
    )).length > 0
  );
  await session.query("commit");
  assert.deepEqual((await dropping).dropped, []);
  assert.equal((await consumers(db)).length, 1);
});

test("cleaning leaves the marks at which a reader of what is left can begin", async ({ sql }) => {
  await sql("select hark.notify('c') from generate_series(1, 50)");
  await sql("update hark.log set created_at = now() - interval '2 days'");
  for (let n = 0; n < 30; n++) {
    await sql("select hark.notify('c')");
    await sql("select hark.cut()");
  }
  await sql(
    "update hark.marks set taken_at = now() - interval '1 day' + number * interval '1 minute' where number > 0",
  );
  const start = async () =>
    (await sql(
      `select (p.seen).max_id::int as after
       from hark.start_position('time', null, now() - interval '1 day' + interval '15 minutes') p`,
    ))[0]!.after;
  const before = await start();
  assert.equal(
    (await sql("select removed::int from hark.clean(now() - interval '1 day')"))[0]!.removed,
    50,
  );
  await sql("select hark.thin_marks('0')");
  assert.equal(await start(), before);
  assert.deepEqual(await sql("select cleaned_through::int as through from hark.upkeep"), [{
    through: 50,
  }]);
});

test("marks from before what cleaning has left go", async ({ sql }) => {
  for (let n = 0; n < 30; n++) {
    await sql("select hark.notify('c')");
    await sql("select hark.cut()");
  }
  await sql(
    "update hark.marks set taken_at = now() - interval '1 day' + number * interval '1 minute' where number > 0",
  );
  await sql("select * from hark.clean(now() + interval '1 hour')");
  await sql("select hark.thin_marks('0')");
  assert.deepEqual(
    await sql("select count(*)::int from hark.marks"),
    [{ count: 11 }],
    "mark 0 and the newest ten",
  );
});
