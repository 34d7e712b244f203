import assert from "node:assert/strict";
import {
  connect,
  consumerDetails,
  consumers,
  pause,
  removeConsumer,
  resume,
  setPartitions,
  status,
} from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { ByHand, odd } from "./_support/by_hand.ts";

test("a consumer is shown with its partitions, its workers, and what it is to try again", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register($1, array[$1, 'c'], partitions => 2)", [odd]);
  await sql("select hark.register('plain', array['c'], filter => '{\"key\": [\"k1\"]}')");
  await sql("select hark.notify('c', to_jsonb(n), 'k' || n) from generate_series(1, 10) n");
  const worker = new ByHand(await client(), odd, [odd, "c"]);
  await worker.claim();
  await worker.read();
  await worker.acknowledge([
    { kind: "wait", id: 3, partition: 0, key: odd, state: "failed", attempts: 2, error: odd },
    { kind: "wait", id: 4, partition: 0, key: odd, state: "behind", attempts: 0 },
    { kind: "dead", id: 5, partition: 0, attempts: 20, error: "out of paper" },
  ]);
  await sql("select hark.notify('c') from generate_series(1, 3)");
  await sql("select hark.notify('other')");
  const one = await consumerDetails(db, odd);
  assert.deepEqual(
    [one.unread, one.waiting, one.blocked, one.dead, one.workers, one.served, one.serving],
    [3, 2, 1, 1, 1, 2, true],
  );
  assert.deepEqual([one.partitions, one.handled, one.pausedAt, one.generation], [2, 2, null, 1]);
  assert.deepEqual([one.failing?.id, one.failing?.attempts, one.failing?.error], [3, 2, odd]);
  assert(one.oldestWaiting instanceof Date && one.oldestUnread instanceof Date);
  assert.equal(one.owner, worker.owner);
  assert.deepEqual(one.partitionList.map((p) => [p.partition, p.waiting, p.blocked, p.owner]), [
    [0, 2, true, worker.owner],
    [1, 0, false, worker.owner],
  ]);
  assert.equal(one.partitionList.reduce((sum, { unread }) => sum + unread, 0), 3);
  assert.deepEqual(
    one.workerList.map(({ owner, alive, listening, partitions }) => ({
      owner,
      alive,
      listening,
      partitions,
    })),
    [{ owner: worker.owner, alive: true, listening: false, partitions: [0, 1] }],
  );
  assert.deepEqual(one.heads.map(({ id, state, key, channel }) => [id, state, key, channel]), [
    [3, "failed", odd, "c"],
  ]);
  const [first, second] = await consumers(db);
  assert.deepEqual([first?.consumer, second?.consumer], [odd, "plain"]);
  assert.deepEqual([second?.unread, second?.filter], [1, { key: ["k1"] }]);
  assert.deepEqual((await status(db)).consumers.map((c) => c.consumer), [odd, "plain"]);
  await assert.rejects(consumerDetails(db, "unknown"), {
    code: "NO_CONSUMER",
    message: /"unknown".*"plain"/,
  });
});

test("pausing and resuming say whether that was news, and wake the workers", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register($1, array['c'])", [odd]);
  const listener = await client();
  const nudged: unknown[] = [];
  listener.on("notification", ({ payload }) => nudged.push(payload));
  await listener.query("listen hark_control");
  assert.deepEqual([await pause(db, odd), await pause(db, odd)], [true, false]);
  assert((await consumers(db))[0]?.pausedAt instanceof Date);
  assert.deepEqual([await resume(db, odd), await resume(db, odd)], [true, false]);
  assert.equal((await consumers(db))[0]?.pausedAt, null);
  await until(() => nudged.length === 2);
  assert.deepEqual(nudged, [odd, odd]);
  assert.equal((await sql("select changes::int from hark.consumers"))[0].changes, 2);
});

test("a consumer is divided, and its workers are asked to settle first", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register('r', array['c'])");
  assert.equal(await setPartitions(db, "r", 4), "done");
  assert.equal((await consumers(db))[0]?.partitions, 4);
  const worker = new ByHand(await client(), "r");
  await worker.claim();
  assert.equal(await setPartitions(db, "r", 2), "pending");
  assert.deepEqual(
    [(await consumers(db))[0]?.partitions, (await consumers(db))[0]?.nextPartitions],
    [
      4,
      2,
    ],
  );
  for (const n of [0, -1, 1025, 1.5, NaN, "4", null, undefined]) {
    await assert.rejects(setPartitions(db, "r", n as number), { code: "BAD_OPTION" }, String(n));
  }
});

test("a consumer is removed with all that is kept for it; its worker is told", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.register('r', array['c'])");
  await sql("select hark.notify('c') from generate_series(1, 3)");
  const session = await client();
  const worker = new ByHand(session, "r");
  await worker.claim();
  await worker.read();
  await worker.acknowledge([
    { kind: "wait", id: 1, partition: 0, state: "failed", attempts: 1, error: "x" },
    { kind: "dead", id: 2, partition: 0, attempts: 1, error: "x" },
  ]);
  await sql("insert into hark.replays (consumer, next_id, to_id) values ('r', 1, 2)");
  // While the worker is acknowledging, removing waits; neither is ended by a deadlock.
  await session.query("begin");
  await worker.acknowledge();
  const removing = removeConsumer(db, "r");
  await until(async () =>
    (await sql(
      "select from pg_stat_activity where datname = current_database() " +
        "and wait_event_type = 'Lock' and query ~ 'remove'",
    ))
      .length > 0
  );
  await session.query(`select hark.settle('r', '[{"kind": "wait", "id": 3, "partition": 0,
    "state": "failed", "attempts": 1}]')`);
  await session.query("commit");
  assert.equal(await removing, true);
  assert.equal(await removeConsumer(db, "r"), false);
  for (const table of ["partitions", "workers", "waiting", "dead", "replays"]) {
    assert.deepEqual(await sql(`select * from hark.${table}`), [], table);
  }
  await assert.rejects(worker.acknowledge(), { code: "HK005" });
});

test("names that are none, an unknown consumer, and a missing schema are refused", async (context) => {
  const { use, url, sql } = context;
  const db = use(await connect(url));
  const calls = [pause, resume, removeConsumer, consumerDetails];
  for (const call of calls) {
    for (const name of [undefined, null, "", 5, {}, "x".repeat(201), "a\0", "\ud800"]) {
      await assert.rejects(call(db, name as string), { code: "BAD_OPTION" });
    }
    if (call !== removeConsumer) {
      await assert.rejects(call(db, odd), { code: "NO_CONSUMER" });
    }
  }
  assert.equal(await removeConsumer(db, odd), false);
  for (const call of ["pause(null)", "resume(null)", "pause('x')"]) {
    await assert.rejects(sql(`select hark.${call}`), { code: "HK007" });
  }
  await sql("drop schema hark cascade");
  for (const call of calls) await assert.rejects(call(db, "r"), { code: "NO_SCHEMA" });
  await assert.rejects(consumers(db), { code: "NO_SCHEMA" });
});
