import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  deadLetters,
  discard,
  NewerVersion,
  notify,
  retry,
  status,
} from "../../mod.ts";
import { said } from "../faults/_support/logs.ts";
import { test } from "../harness/mod.ts";

/** Handles a number if its last digit is no higher than what the program knows. */
function knowing(knows: number, seen: string[]) {
  return (payload: number, attempt = 1) => {
    if (payload % 10 > knows) throw new NewerVersion(`version ${payload % 10} is not known yet`);
    seen.push(`${payload} by ${knows}${attempt === 1 ? "" : `, attempt ${attempt}`}`);
  };
}

test("what needs a newer worker waits with its key, counts no attempt, and is said aloud", async (context) => {
  const db = context.use(await connect(context.url));
  const since = Date.now();
  const seen: string[] = [];
  const program = (knows: number) => {
    const handle = knowing(knows, seen);
    return new Consumer<number>(db, {
      id: "c",
      channels: "n",
      concurrency: 4,
      maxAttempts: 1,
      onError: () => assert.fail("no failure"),
      onDeadLetter: () => assert.fail("no dead letter"),
      handle: ({ payload, attempt }) => handle(payload, attempt),
    });
  };
  for (const [payload, key] of [[12, "a"], [21, "a"], [31, "b"]] as const) {
    await notify(db, "n", payload, { key });
  }
  assert.equal(await program(1).drain(), 1);
  assert.deepEqual(seen, ["31 by 1"]);
  await said(
    "warning",
    /notification 1 waits, with its key, for a worker of a newer program: version 2 is not known yet/,
    since,
  );
  // Also after a restart of the old program, and when an operator asks for an attempt at once.
  assert.equal(await program(1).drain(), 0);
  await retry(db, "c", { all: true });
  assert.equal(await program(1).drain(), 0);
  const [one] = (await status(db)).consumers;
  assert.deepEqual(
    { waiting: one!.waiting, blocked: one!.blocked, failing: one!.failing, dead: one!.dead },
    { waiting: 2, blocked: 0, failing: null, dead: 0 },
  );
  assert.deepEqual(one!.newer, { count: 1, id: 1, reason: "version 2 is not known yet" });
  const rows = await context.sql(
    "select id::integer, state, attempts from hark.waiting order by id",
  );
  assert.deepEqual(rows, [
    { id: 1, state: "newer", attempts: 0 },
    { id: 2, state: "behind", attempts: 0 },
  ]);
  assert.equal(await program(2).drain(), 2);
  assert.deepEqual(seen, ["31 by 1", "12 by 2", "21 by 2"]);
  assert.equal((await status(db)).consumers[0]!.newer, null);
});

for (const kind of ["block", "batch", "transactional"] as const) {
  test(`what needs a newer worker waits in order for a consumer with ${kind}`, async (context) => {
    const db = context.use(await connect(context.url));
    const seen: string[] = [];
    const options = {
      id: "c",
      channels: "n",
      ...kind === "block" ? { onFailure: kind } as const : {},
      transactional: kind === "transactional",
    };
    const consumer = (knows: number) => {
      const handle = knowing(knows, seen);
      return new Consumer<number>(
        db,
        kind === "batch"
          ? {
            ...options,
            handleBatch(batch, context) {
              for (const one of batch) {
                try {
                  handle(one.payload);
                } catch (error) {
                  context.fail(one, error);
                }
              }
            },
          }
          : { ...options, handle: ({ payload }) => handle(payload) },
      );
    };
    for (const payload of [11, 22, 31, 42, 51]) await notify(db, "n", payload, { key: "k" });
    await notify(db, "n", 61, { key: "other" });
    await consumer(1).drain();
    assert.deepEqual(seen, kind === "block" ? ["11 by 1"] : ["11 by 1", "61 by 1"]);
    await consumer(2).drain();
    assert.deepEqual(seen.filter((one) => !one.startsWith("61")), [
      "11 by 1",
      "22 by 2",
      "31 by 2",
      "42 by 2",
      "51 by 2",
    ]);
    assert.equal(seen.filter((one) => one.startsWith("61")).length, 1);
    assert.deepEqual(await deadLetters(db), []);
  });
}

test("what waits for a newer worker can be discarded", async (context) => {
  const db = context.use(await connect(context.url));
  const seen: string[] = [];
  const handle = knowing(1, seen);
  for (const payload of [12, 21]) await notify(db, "n", payload, { key: "a" });
  const consumer = new Consumer(db, { id: "c", channels: "n", handle: (n) => handle(n.payload) });
  await consumer.drain();
  await discard(db, "c", { ids: [1] });
  await consumer.drain();
  assert.deepEqual(seen, ["21 by 1"]);
  assert.deepEqual(await deadLetters(db), []);
});

test("a crash of the worker counts no attempt of what waits for a newer one", async (context) => {
  const db = context.use(await connect(context.url));
  const handle = knowing(1, []);
  const program = () =>
    new Consumer(db, { id: "c", channels: "n", handle: (n) => handle(n.payload) });
  for (const key of ["a", "b"]) {
    await notify(db, "n", 12, { key });
    await program().drain();
    await context.sql("update hark.partitions set crashes = 3");
  }
  await program().drain();
  const rows = await context.sql("select state, attempts from hark.waiting");
  assert.deepEqual(rows, Array(2).fill({ state: "newer", attempts: 0 }));
});
