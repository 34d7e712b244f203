import assert from "node:assert/strict";
import { connect, notifyMany, type Queryable, seek } from "../../mod.ts";
import { OwnedPartition } from "../../src/consume/state/partition.ts";
import { type OpenSink, relay, type Sink } from "../../src/relay/mod.ts";
import { Places } from "../../src/relay/places.ts";
import { type Deferred, deferred, test, until } from "../harness/mod.ts";

/** A target of the test's own. A message is stored once `gate` lets it. */
function target(gate: (id: string) => Promise<void> = () => Promise.resolve()) {
  const stored: string[] = [];
  const tried: string[] = [];
  const open: OpenSink = {
    target: "a test",
    warnings: [],
    get end() {
      return stored.length;
    },
    async publish({ id }) {
      tried.push(id);
      await gate(id);
      return { place: stored.push(id), duplicate: false };
    },
    describe: () => "a test",
    recover: () => Promise.resolve(new Set<string>()),
    publishedBehind: (place) =>
      Promise.resolve({ ids: new Set(stored.slice(place)), end: stored.length }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const sink: Sink = { kind: "test", open: () => Promise.resolve(open) };
  return { sink, open, stored, tried };
}

const orders = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ channel: "orders", key: `k${i}`, payload: i }));

test("a relay keeps its place before what the target has and the relay has not passed", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  const first = deferred();
  const { sink, stored, tried } = target((id) =>
    id.endsWith(":2") ? first.wait({ deadline: 60_000 }) : Promise.resolve()
  );
  const make = () => relay(db, { id: "out", channels: "orders", to: sink });
  await notifyMany(db, orders(1));
  await make().drain();
  // What a relay has left that crashed while its second message was under way: the target has all others.
  await notifyMany(db, orders(2_000));
  const [{ id: install }] = await sql("select id::text from hark.install");
  for (let id = 3; id <= 2_001; id++) stored.push(`hark:${install}:${id}`);
  const out = make();
  const running = out.run();
  await until(() => tried.length === 2);
  // It goes on, and could store places more than once.
  const begun = performance.now();
  await until(async () => {
    await notifyMany(db, [{ channel: "orders" }]);
    return performance.now() - begun > 2_500;
  });
  const place = async () => Number((await sql("select place from hark.relays"))[0].place);
  assert.equal(await place(), 0, "a crash now would leave nearly all messages unfound");
  first.resolve();
  await until(async () => await place() >= 2_000, { what: "the place to follow what was found" });
  await out.stop();
  await running;
  assert.equal(new Set(stored).size, stored.length, "nothing is published twice");
});

test("soon after a takeover the next one has little to look through", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  const { sink, stored } = target();
  const make = () => relay(db, { id: "out", channels: "orders", to: sink, partitions: 4 });
  await notifyMany(db, orders(3_000));
  await make().drain();
  await sql("update hark.relays set place = 0");
  await seek(db, "out", "beginning");
  const out = make();
  const running = out.run();
  await until(async () => (await sql("select from hark.relays where place < 3000")).length === 0, {
    what: "all places to be at the end, although nothing is published",
  });
  await out.stop();
  await running;
  assert.equal(new Set(stored).size, 3_000); // if its lease runs out, it sends again what a target would know
});

/** The claim of partition 0 under an epoch. */
function claim(epoch: number): OwnedPartition {
  const seen = { number: 0, content: "", life: "", snapshot: "" };
  return new OwnedPartition(
    {
      partition: 0,
      epoch,
      position: { seen, target: undefined, lastId: 0, afterId: 0 },
      crashes: 0,
      suspectId: undefined,
      suspectEnds: 0,
      incarnation: "",
    },
    100,
    new AbortController().signal,
  );
}

const entry = { id: 7, phase: "running" } as Parameters<Places["begin"]>[1][number];

test("a relay that lost a partition while it asked the database goes on once it has it again", async ({ url, use }) => {
  const db = use(await connect(url));
  const { open, sink } = target();
  await relay(db, { id: "out", channels: "orders", to: sink }).drain();
  const slow = deferred();
  let asked = 0;
  const asking: Queryable = {
    async query(text, values) {
      const answer = await db.query(text, values);
      if (text.includes("relay_place") && ++asked === 2) await slow.wait();
      return answer;
    },
  };
  await using places = new Places(asking, "out", open, 15_000);
  await places.check();
  const [lost, again] = [claim(1), claim(2)];
  const early = places.serve([lost]);
  await until(() => asked === 2);
  lost.lose(new Error("it was taken over"));
  const late = places.serve([again]);
  await until(() => asked === 3);
  slow.resolve();
  const [, { status }] = await Promise.allSettled([early, late]);
  assert.equal(status, "fulfilled");
  assert.equal(places.needsLook(again), false);
  places.begin(again, [entry]);
});

test("what comes into doubt during a look is looked for once more", async ({ url, use }) => {
  const db = use(await connect(url));
  const { sink, open, stored } = target();
  await relay(db, { id: "out", channels: "orders", to: sink }).drain();
  const looks: Deferred<void>[] = [];
  const slow: OpenSink = {
    ...open,
    get end() {
      return stored.length;
    },
    async publishedBehind(place) {
      const look = await open.publishedBehind(place);
      const answer = deferred();
      looks.push(answer);
      await answer.wait();
      return look;
    },
  };
  await using places = new Places(db, "out", slow, 15_000);
  await places.check();
  const held = claim(1);
  const looked = async (count: number) => {
    await until(() => looks.length === count);
    looks.at(-1)!.resolve();
  };
  const served = places.serve([held]);
  await looked(1);
  await served;
  places.begin(held, [entry]);
  places.end(held, [entry], new Set());
  places.doubt([held]);
  const before = places.serve([held]);
  await until(() => looks.length === 2);
  stored.push(`hark:${places.install}:7`); // the look under way does not see it
  places.doubt([held]);
  const after = places.serve([held]);
  await looked(2);
  await looked(3);
  await Promise.all([before, after]);
  assert.equal(places.isThere(held, 7), true);
  assert.equal(looks.length, 3);
});
