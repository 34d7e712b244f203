/** Whatever fails, is retried, is lost and comes back: what a worker hands out, and in which order. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { type Ending, type Kind, Simulated } from "./_support/simulated.ts";

type Step =
  | { what: "publish"; key: string | null; count: number; readable?: boolean }
  | { what: "read"; most: number }
  | { what: "settle"; at: number; ending: Ending }
  | { what: "wake"; all: boolean }
  | { what: "lose" | "release"; partition: number }
  | { what: "hurry" | "discard"; at: number }
  | { what: "replay"; at: number; count: number }
  | { what: "make room" | "tell late" | "acknowledge" | "finish halts" };

async function take(worker: Simulated, step: Step): Promise<void> {
  switch (step.what) {
    case "publish":
      for (let n = 0; n < step.count; n++) worker.publish(step.key, step.readable);
      break;
    case "read":
      await worker.read(step.most);
      break;
    case "settle":
      await worker.settle(step.at, step.ending);
      break;
    case "wake":
      await worker.wake(step.all);
      break;
    case "lose":
      await worker.lose(step.partition);
      break;
    case "release":
      worker.release(step.partition);
      break;
    case "hurry":
      await worker.hurry(step.at);
      break;
    case "discard":
      await worker.discard(step.at);
      break;
    case "replay":
      await worker.replay(step.at, step.count);
      break;
    case "make room":
      worker.makeRoom();
      break;
    case "tell late":
      worker.tellLate();
      break;
    case "acknowledge":
      worker.acknowledge();
      break;
    case "finish halts":
      await worker.finishHalts();
      break;
  }
  worker.pump();
}

/** Takes the steps, then has all handlers succeed: everything has to end. */
async function play(kind: Kind, steps: readonly Step[]): Promise<void> {
  const worker = new Simulated(kind);
  await worker.start();
  for (const step of steps) await take(worker, step);
  await worker.finish();
}

const plain: Kind = {
  concurrency: 1,
  batchSize: 1,
  partitions: 1,
  transactional: false,
  block: false,
  maxWaiting: 10_000,
};
const publish = (key: string | null, count = 1): Step => ({ what: "publish", key, count });
const read: Step = { what: "read", most: 100 };
const wake: Step = { what: "wake", all: true };
const settle = (how: Ending["how"], mask = 0, at = 0): Step => ({
  what: "settle",
  at,
  ending: { how, mask },
});

/** Cases that were wrong once. */
const cases: [name: string, kinds: Partial<Kind>[], steps: Step[]][] = [
  [
    "what waits ahead of its position is not forgotten when its partition is given back",
    [{ concurrency: 3 }, { concurrency: 3, transactional: true }],
    [
      publish("a"),
      publish("b"),
      read,
      settle("throws", 0, 1),
      { what: "acknowledge" },
      { what: "lose", partition: 0 },
      read,
      { what: "release", partition: 0 },
      settle("succeeds"),
    ],
  ],
  [
    "two of a key that fail in the same batch come again one after the other",
    [{ batchSize: 4 }, { batchSize: 4, concurrency: 3 }],
    [publish("a", 2), read, settle("throws"), wake],
  ],
  [
    "one of a key whose predecessor in the batch is given up is not forgotten",
    [{ batchSize: 4 }, { batchSize: 4, concurrency: 3 }],
    [publish("a", 2), read, settle("gives up", 1), wake],
  ],
  [
    "a transaction that fails because of a key's second one leaves the first before it",
    [
      { batchSize: 4, transactional: true },
      { batchSize: 4, transactional: true, concurrency: 3 },
      { batchSize: 4, transactional: true, block: true },
    ],
    [publish("a", 2), read, settle("fails some", 2), wake],
  ],
  [
    "a batch that lost its connection is handed out again once",
    [{ batchSize: 4 }, { batchSize: 4, concurrency: 3 }],
    [publish("a", 2), read, settle("loses its connection")],
  ],
  [
    "one that cannot be read makes no room in its key beside what runs",
    [{ batchSize: 4, concurrency: 3 }],
    [{ ...publish("a"), readable: false } as Step, publish("a"), read, publish("a"), read],
  ],
  [
    "one whose followers are more than may wait is tried again",
    [{ concurrency: 3, maxWaiting: 3 }, { concurrency: 3, maxWaiting: 3, transactional: true }],
    [publish("a", 4), read, settle("throws"), wake],
  ],
  [
    "while it is unsure whether a retried one has committed, what waits behind it does not begin",
    [{ concurrency: 3, transactional: true }],
    [
      publish("a", 2),
      publish("c"),
      read,
      settle("throws"),
      { what: "acknowledge" },
      wake,
      settle("commits or not", 0, 1),
      wake,
    ],
  ],
  [
    "one that was read again behind a waiting one of its key keeps its place when too many wait",
    [{ batchSize: 4, concurrency: 3, maxWaiting: 3 }],
    [
      publish("a"),
      read,
      settle("throws"),
      publish("a"),
      { what: "release", partition: 0 },
      wake,
      settle("succeeds"),
      read,
      { what: "lose", partition: 0 },
      read,
      settle("loses its connection"),
      publish("a", 2),
      read,
      wake,
      settle("succeeds"),
      wake,
    ],
  ],
  [
    "one that is replayed right after its retry has committed is not ended by what is stored of that",
    [{ transactional: true }, { concurrency: 3, transactional: true }],
    [
      publish("a"),
      read,
      settle("throws"),
      { what: "acknowledge" },
      wake,
      settle("succeeds"),
      { what: "replay", at: 0, count: 1 },
    ],
  ],
  [
    "one that is replayed right after it was discarded is handled",
    [{}, { concurrency: 3 }, { transactional: true }],
    [
      publish("a"),
      read,
      settle("throws"),
      { what: "acknowledge" },
      { what: "discard", at: 0 },
      { what: "replay", at: 0, count: 1 },
    ],
  ],
  [
    "one that is discarded while its handler runs, and then replayed, is tried again if it fails",
    [{}, { concurrency: 3 }, { transactional: true }],
    [
      publish("a"),
      read,
      settle("throws"),
      { what: "acknowledge" },
      wake,
      { what: "discard", at: 0 },
      { what: "replay", at: 0, count: 1 },
      settle("throws"),
      wake,
    ],
  ],
];

for (const [name, kinds, steps] of cases) {
  for (const kind of kinds) {
    Deno.test(`${name}: ${JSON.stringify(kind)}`, () => play({ ...plain, ...kind }, steps));
  }
}

function endings(transactional: boolean): fc.Arbitrary<Ending> {
  const hows: Ending["how"][] = ["succeeds", "throws", "fails some", "gives up"];
  hows.push("loses its connection");
  if (transactional) hows.push("commits or not");
  return fc.record({ how: fc.constantFrom(...hows), mask: fc.nat(255) });
}

function anySteps(transactional: boolean): fc.Arbitrary<Step[]> {
  const what = <W extends string>(...words: W[]) => fc.constantFrom<W[]>(...words);
  const weighted = (weight: number, arbitrary: fc.Arbitrary<Step>) => ({ weight, arbitrary });
  const step: fc.Arbitrary<Step> = fc.oneof(
    weighted(
      6,
      fc.record({
        what: what("publish"),
        key: fc.constantFrom("a", "b", "c", "d", null),
        count: fc.integer({ min: 1, max: 3 }),
        readable: fc.nat(15).map((n) => n < 15),
      }),
    ),
    weighted(5, fc.record({ what: what("read"), most: fc.integer({ min: 1, max: 8 }) })),
    weighted(
      8,
      fc.record({ what: what("settle"), at: fc.nat(7), ending: endings(transactional) }),
    ),
    weighted(5, fc.record({ what: what("wake"), all: fc.boolean() })),
    weighted(1, fc.record({ what: what("lose", "release"), partition: fc.nat(3) })),
    weighted(2, fc.record({ what: what("hurry", "discard"), at: fc.nat(7) })),
    weighted(1, fc.record({ what: what("replay"), at: fc.nat(7), count: fc.nat(3) })),
    weighted(4, fc.record({ what: what("make room", "tell late", "acknowledge", "finish halts") })),
  );
  return fc.array(step, { minLength: 5, maxLength: 60, size: "max" });
}

for (const concurrency of [1, 3, 5]) {
  for (const batchSize of [1, 4]) {
    for (const transactional of [false, true]) {
      for (const block of [false, true]) {
        const kind = { concurrency, batchSize, transactional, block };
        Deno.test(`each key in order, one at a time, nothing twice or forgotten: ${JSON.stringify(kind)}`, async () => {
          await fc.assert(
            fc.asyncProperty(
              fc.integer({ min: 1, max: 3 }),
              fc.constantFrom(10_000, 10_000, 3),
              anySteps(transactional),
              (partitions, maxWaiting, steps) => play({ ...kind, partitions, maxWaiting }, steps),
            ),
            { numRuns: 100 },
          );
        });
      }
    }
  }
}

const limits: NonNullable<Kind["limits"]>[] = [
  {},
  { grouped: true },
  { grouped: true, perKey: { concurrency: 1 } },
  { grouped: true, perKey: { concurrency: 2, rate: { count: 3, per: 1000 } } },
  { perKey: { rate: { count: 2, per: 500 } }, rate: { count: 3, per: 400 } },
  { rate: { count: 1, per: 300 } },
];

for (const one of limits) {
  for (const transactional of [false, true]) {
    const name = JSON.stringify({ ...one, transactional });
    Deno.test(`keys that take turns are each in order, within their limits, and nothing is forgotten: ${name}`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(1, 3, 5),
          fc.integer({ min: 1, max: 3 }),
          fc.constantFrom(10_000, 10_000, 3, 8),
          fc.boolean(),
          anySteps(transactional),
          (concurrency, partitions, maxWaiting, block, steps) =>
            play({
              concurrency,
              batchSize: 1,
              transactional,
              block,
              partitions,
              maxWaiting,
              limits: one,
            }, steps),
        ),
        { numRuns: 100 },
      );
    });
  }
}

/** Handles everything, one handler at a time. Returns the keys in the order handled. */
async function keysHandled(kind: Kind, keys: readonly string[]): Promise<(string | null)[]> {
  const worker = new Simulated(kind);
  await worker.start();
  for (const key of keys) worker.publish(key);
  await take(worker, { what: "read", most: Infinity });
  const handled: (string | null)[] = [];
  while (worker.calls.length > 0) {
    handled.push(worker.calls[0]!.entries[0]!.key);
    await take(worker, settle("succeeds"));
  }
  await worker.finish();
  return handled;
}

Deno.test("with limits, one handler at a time takes keys in turn; without, the order is as read", async () => {
  const keys = [..."aaaaaabbcd"];
  assert.equal((await keysHandled({ ...plain, limits: {} }, keys)).join(""), "abcdabaaaa");
  assert.equal((await keysHandled(plain, keys)).join(""), "aaaaaabbcd");
  const grouped = { ...plain, limits: { grouped: true } };
  assert.equal((await keysHandled(grouped, keys)).join(""), "acbdabaaaa");
});

Deno.test("what a limit holds back is set aside, so that others can be read, and comes when its turn comes", async () => {
  const limits = { grouped: true, perKey: { rate: { count: 1, per: 1000 } } };
  const worker = new Simulated({ ...plain, concurrency: 3, limits });
  await worker.start();
  for (const key of ["a", "b", "a", "b"]) worker.publish(key);
  await take(worker, read);
  assert.deepEqual(worker.calls.map(({ entries }) => entries[0]!.id), [1]);
  await take(worker, settle("succeeds"));
  await take(worker, { what: "make room" });
  await take(worker, { what: "acknowledge" });
  assert.equal(
    worker.state.partitions.get(0)!.oldest,
    undefined,
    "the position passes all of them",
  );
  assert.equal(worker.state.entries.bytes, 0, "and none is in memory");
  worker.publish("c");
  await take(worker, read);
  assert.deepEqual(worker.calls.map(({ entries }) => entries[0]!.id), [5]);
  await take(worker, wake); // a token is there: one is read again
  await take(worker, wake);
  assert.deepEqual(worker.calls.map(({ entries }) => entries[0]!.id), [5, 2]);
  await worker.finish();
});

for (const concurrency of [1, 3]) {
  Deno.test(`a key that waits holds up no other, ${concurrency} at a time`, async () => {
    await fc.assert(fc.asyncProperty(
      fc.array(fc.constantFrom("a", "b", "c", "d", null), { maxLength: 30 }),
      async (keys) => {
        const worker = new Simulated({ ...plain, concurrency });
        await worker.start();
        worker.publish("bad");
        await take(worker, read);
        await take(worker, settle("throws"));
        for (const key of keys) {
          worker.publish(key);
          worker.publish("bad");
        }
        await take(worker, read);
        while (worker.calls.length > 0) await take(worker, settle("succeeds"));
        worker.acknowledge();
        const others = worker.log.filter(({ key }) => key !== "bad").map(({ id }) => id);
        const bad = worker.log.filter(({ key }) => key === "bad").map(({ id }) => id);
        const sorted = (ids: Iterable<number>) => [...ids].sort((a, b) => a - b).join();
        if (sorted(worker.ended) !== sorted(others)) {
          throw new Error(`only ${sorted(worker.ended)}`);
        }
        // They are stored as waiting, so that the position may pass them.
        if (sorted(worker.waiting.keys()) !== sorted(bad)) {
          throw new Error(`${sorted(worker.waiting.keys())} wait, not ${sorted(bad)}`);
        }
        await worker.finish();
      },
    ));
  });
}

for (const batchSize of [1, 4]) {
  Deno.test(`one handler at a time handles all keys in the order read, ${batchSize} a call`, async () => {
    const worker = new Simulated({ ...plain, batchSize });
    await worker.start();
    for (const key of ["a", "a", "b", null, "a", "b"]) await take(worker, publish(key));
    await take(worker, read);
    const handled: number[] = [];
    while (worker.calls.length > 0) {
      handled.push(...worker.calls[0]!.entries.map(({ id }) => id));
      await take(worker, settle("succeeds"));
    }
    assert.deepEqual(handled, [1, 2, 3, 4, 5, 6]);
    await worker.finish();
  });
}
