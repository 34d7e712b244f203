/** Which entry is taken next if keys take turns, and what limits allow. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Bucket } from "../../src/consume/state/bucket.ts";
import type { Entry } from "../../src/consume/state/entry.ts";
import { type CheckedLimits, Turns } from "../../src/consume/state/turns.ts";

const unlimited: CheckedLimits = {
  concurrency: Infinity,
  perGroup: undefined,
  rate: undefined,
  groupOf: ({ key }) => key ?? undefined,
  clock: () => 0,
};

/** An entry of a key, in memory or set aside. */
const entryOf = (id: number, key: string, inMemory = true) =>
  ({ id, key, phase: "ready", startedAt: 0, row: inMemory ? {} : undefined }) as Entry;

Deno.test("a group whose entries were dropped while they were read again goes on", () => {
  const turns = new Turns(unlimited);
  const aside = Array.from({ length: 30 }, (_, n) => entryOf(n, "a", false));
  for (const entry of aside) turns.add(entry);
  const taken: Entry[] = [];
  for (let entry; (entry = turns.take()) !== undefined;) taken.push(entry);
  assert.equal(taken.length, 10, "no more are read again at a time");
  assert.equal(turns.hasReady, false);
  for (const entry of aside) Object.assign(entry, { phase: "dropped" });
  turns.keep((entry) => entry.phase !== "dropped");
  turns.prune();
  const next = entryOf(31, "a");
  turns.add(next);
  assert.equal(turns.take(), next);
});

Deno.test("a handler of a dropped entry keeps its place until it ends", () => {
  const turns = new Turns({ ...unlimited, concurrency: 1 });
  const [one, two] = [entryOf(1, "a"), entryOf(2, "a")];
  turns.add(one);
  turns.add(two);
  assert.equal(turns.take(), one);
  Object.assign(one, { phase: "dropped", startedAt: 5 });
  turns.prune();
  assert.equal(turns.take(), undefined);
  turns.release(one);
  assert.equal(turns.take(), two);
});

Deno.test("a bucket gives no more than its rate in any time, and all of it in the end", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 20 }),
    fc.integer({ min: 1, max: 5000 }),
    fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }),
    (count, per, pauses) => {
      let now = 0;
      const bucket = new Bucket({ count, per }, now);
      const starts: number[] = [];
      for (const pause of pauses) {
        now += pause;
        while (bucket.wait(now) === 0) {
          bucket.spend();
          starts.push(now);
        }
        const wait = bucket.wait(now);
        assert(wait > 0 && wait <= per / count + 1e-6);
        const recent = starts.filter((at) => at > now - per).length;
        assert(recent <= 2 * count, `${recent} in ${per} ms`);
      }
      // What is gained while the bucket is full is lost.
      if (pauses.some((pause) => pause > per * (count - 1) / count)) return;
      assert(starts.length >= Math.floor(now / per * count), `${starts.length} in ${now} ms`);
    },
  ));
});

Deno.test("many groups that came and went are forgotten", () => {
  let now = 0;
  const perGroup = { count: 1, per: 1000 };
  const turns = new Turns({ ...unlimited, perGroup, clock: () => now });
  for (let n = 0; n < 20_000; n++) {
    const entry = entryOf(n, `key ${n}`);
    turns.add(entry);
    assert.equal(turns.take(), entry);
    turns.release(entry);
    now += 10;
  }
  assert(turns.groupCount < 5000, `${turns.groupCount} are left`);
});
