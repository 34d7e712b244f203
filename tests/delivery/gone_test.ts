import assert from "node:assert/strict";
import { Gone } from "../../src/consume/lease/gone.ts";

/** Asks each time that is due. Returns when the partition may be claimed. */
function claimedAt(took: number): number {
  const gone = new Gone();
  for (let now = 0;; now = gone.due) if (gone.note([7], took, now).includes(7)) return now;
}

Deno.test("an owner without its session has a second to come back, and more where answers are slow", () => {
  assert.equal(claimedAt(0), 1000);
  assert.equal(claimedAt(2), 1040);
  assert.equal(claimedAt(100), 3000);
  assert.equal(
    claimedAt(60_000),
    5000,
    "one answer that took long does not hold it up for minutes",
  );
});

Deno.test("an owner that came back and is lost again has its whole time again", () => {
  const gone = new Gone();
  assert.deepEqual(gone.note([7], 2, 0), []);
  assert.deepEqual(gone.note([], 2, 500), []);
  assert.equal(gone.due, Infinity);
  assert.deepEqual(gone.note([7], 2, 1500), []);
  assert.deepEqual(gone.note([7], 2, 2539), []);
  assert.deepEqual(gone.note([7], 2, 2540), [7]);
});
