import assert from "node:assert/strict";
import {
  cleanup,
  connect,
  consumerDetails,
  deadLetters,
  discard,
  removeConsumer,
  replay,
  retry,
  seek,
  setPartitions,
  status,
} from "../../mod.ts";
import { NEVER_POLL, numbers, publish, Running } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";

/** Waits until consumer "c" has nothing left to do. */
async function idle(db: Parameters<typeof status>[0]): Promise<void> {
  await until(async () =>
    (await status(db)).consumers.every((c) => c.unread === 0 && c.waiting === 0 && c.replays === 0)
  );
}

test("dead letters are handled again by a live worker once the cause is repaired", async (context) => {
  const db = context.use(await connect(context.url));
  let broken = true;
  const running = context.use(
    new Running(db, {
      pollInterval: NEVER_POLL,
      maxAttempts: 1,
      handle({ payload }) {
        if (broken && payload % 2 === 0) throw new Error(`${payload} out of paper`);
      },
    }),
  );
  const ids = await publish(context, 1, 8);
  await until(async () => (await deadLetters(db, { consumer: "c" })).length === 4);
  const [first] = await deadLetters(db, { error: "2 out of" });
  assert.deepEqual([first?.id, first?.payload, first?.attempts], [ids[1], 2, 1]);
  assert.equal(await retry(db, "c", { ids: [ids[1]!] }), 1);
  await until(async () => (await deadLetters(db, { ids: [ids[1]!] })).length === 1);
  broken = false;
  assert.equal(await discard(db, "c", { ids: [ids[3]!] }), 1);
  // The log may have lost them since: the copy is what is handled.
  await cleanup(db, { olderThan: new Date(Date.now() + 60_000), force: true });
  const before = running.payloads.length;
  assert.equal(await retry(db, "c", { all: true }), 3);
  await running.atLeast(before + 3, { deadline: 10_000 });
  await idle(db);
  assert.deepEqual(running.payloads.slice(before).sort(), [2, 6, 8]);
  assert.deepEqual(await deadLetters(db), []);
});

test("two workers that share partitions under load are moved: all from there on is handled after it", async (context) => {
  const db = context.use(await connect(context.url));
  const workers = [1, 2].map(() =>
    context.use(new Running(db, { partitions: 4, concurrency: 4, acknowledgeInterval: 5 }))
  );
  const load = (from: number, to: number) =>
    context.sql(
      "select hark.notify('c', to_jsonb(n), 'k' || n % 20) from generate_series($1::int, $2::int) n",
      [from, to],
    );
  await load(1, 1000);
  await until(() => workers[0]!.payloads.length + workers[1]!.payloads.length > 300);
  const before = workers.map((one) => one.payloads.length);
  const [{ id }] = await context.sql("select id::int from hark.log where payload = '600'");
  await Promise.all([seek(db, "c", { id }), load(1001, 1500)]);
  await idle(db);
  const after = new Set(workers.flatMap((one, i) => one.payloads.slice(before[i])));
  assert.deepEqual(numbers(600, 1500).filter((n) => !after.has(n)), []);
  await seek(db, "c", "beginning");
  await idle(db);
  await seek(db, "c", "now");
  const moved = workers.map((one) => one.payloads.length);
  await load(1501, 1600);
  await idle(db);
  assert.deepEqual(
    workers.flatMap((one, i) => one.payloads.slice(moved[i])).sort(),
    numbers(1501, 1600).sort(),
  );
});

test("what waits to be tried again is given up by a seek past it, and comes again by one before it", async (context) => {
  const db = context.use(await connect(context.url));
  let broken = true;
  const running = context.use(
    new Running(db, {
      retry: { initial: 86_400_000, maximum: 86_400_000 },
      handle({ payload }) {
        if (broken && payload === 3) throw new Error("out of paper");
      },
    }),
  );
  const ids = await publish(context, 1, 5);
  await running.atLeast(5);
  await until(async () => (await status(db)).consumers[0]?.failing?.id === ids[2]);
  assert.deepEqual(await seek(db, "c", { id: ids[1]! }), { givenUp: 0 });
  await running.atLeast(9);
  await until(async () => (await status(db)).consumers[0]?.failing?.id === ids[2]);
  assert.deepEqual(await seek(db, "c", "now"), { givenUp: 1 });
  const [dead] = await deadLetters(db);
  assert.deepEqual([dead?.id, dead?.error], [ids[2], "given up by a seek"]);
  broken = false;
  await retry(db, "c", { all: true });
  await running.atLeast(10);
  assert.deepEqual(running.payloads, [1, 2, 3, 4, 5, 2, 3, 4, 5, 3]);
});

test("a live consumer is divided, and each of a replay and of what is new is handled", async (context) => {
  const db = context.use(await connect(context.url));
  const workers = [1, 2].map(() => context.use(new Running(db, { concurrency: 2 })));
  await publish(context, 1, 200);
  await until(() => workers[0]!.payloads.length + workers[1]!.payloads.length >= 200);
  await idle(db);
  await setPartitions(db, "c", 4);
  await until(async () => (await consumerDetails(db, "c")).served === 4);
  await replay(db, "c", { from: 1, to: 1_000_000 });
  await publish(context, 201, 300);
  await idle(db);
  const all = workers.flatMap((one) => one.payloads) as number[];
  assert.deepEqual(all.sort((a, b) => a - b), [
    ...numbers(1, 200).flatMap((n) => [n, n]),
    ...numbers(201, 300),
  ]);
  const { partitionList, workerList } = await consumerDetails(db, "c");
  assert.deepEqual(partitionList.map(({ partition }) => partition), [0, 1, 2, 3]);
  assert.equal(workerList.filter(({ alive }) => alive).length, 2);
});

test("a consumer that a worker serves is never dropped as inactive; one that stopped is", async (context) => {
  const db = context.use(await connect(context.url));
  const running = new Running(db, {});
  await publish(context, 1, 1);
  await running.atLeast(1);
  await idle(db);
  const drop = { olderThan: new Date(Date.now() + 60_000), dropInactive: 0 };
  assert.deepEqual((await cleanup(db, drop)).dropped, []);
  await running.stop();
  assert.deepEqual((await cleanup(db, drop)).dropped.map((one) => one.consumer), ["c"]);
  assert.equal(await removeConsumer(db, "c"), false);
});
