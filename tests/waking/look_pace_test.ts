/** An awake reader looks as often as looks are cheap, however long they wait on a busy machine. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { LookPace, LookTime } from "../../src/consume/read/look_pace.ts";

/** Milliseconds on a machine. A look costs `cost`, and sometimes waits for the processor. */
class Reader {
  readonly #pace = new LookPace();
  readonly #time = new LookTime();
  now = 1_000_000;
  looks = 0;
  found = 0;

  /** Looks for `ms` milliseconds, while so many come a second. Returns the median time between looks. */
  run(ms: number, perSecond: number, cost: number, waits: () => number = () => 0): number {
    const [begun, before] = [this.now, this.found];
    const times = [];
    while (this.now < begun + ms) {
      const took = cost + waits();
      this.#time.note(took);
      const next = this.#pace.next(
        { found: this.found, busyAt: this.now, lookTime: this.#time.least },
        this.now,
      );
      times.push(next);
      this.looks++;
      this.now += Math.max(next, took);
      this.found = before + Math.floor((this.now - begun) * perSecond / 1000);
    }
    return times.sort((a, b) => a - b)[times.length >> 1]!;
  }
}

const isNear = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) < 0.01, `${actual} ms instead of ${expected}`);

Deno.test("looks take a tenth of the time, and a twentieth from 1,500 notifications a second on", () => {
  isNear(new Reader().run(5000, 1000, 0.6), 6);
  isNear(new Reader().run(5000, 2000, 0.6), 12);
});

Deno.test("looks that wait for the processor do not come later", () => {
  let n = 0;
  // Nine of ten wait for 15 ms: by the last look, the reader would wait for the longest time.
  isNear(new Reader().run(5000, 1000, 0.5, () => ++n % 10 === 0 ? 0 : 15), 5);
});

Deno.test("a burst between two looks is not a load", () => {
  const reader = new Reader();
  const times = [];
  for (let n = 0; n < 100; n++) {
    reader.found += 30; // 750 a second, thirty at once
    times.push(reader.run(40, 0, 0.5));
  }
  assert.ok(times.every((time) => time === 5), `${times}`);
});

Deno.test("looks come 3 to 20 ms apart, whatever they take and however much comes", () => {
  fc.assert(fc.property(
    fc.double({ min: 0, max: 1000, noNaN: true }),
    fc.integer({ min: 0, max: 100_000 }),
    (cost, perSecond) => {
      const time = new Reader().run(1000, perSecond, cost);
      assert.ok(time >= 3 && time <= 20, `${time} ms`);
      if (perSecond < 1500) assert.ok(time <= 10, `${time} ms`);
    },
  ));
});

Deno.test("a reader that nothing reaches looks every 10 ms", () => {
  const pace = new LookPace();
  assert.equal(pace.next({ found: 0, busyAt: 0, lookTime: 0.1 }, 200), 10);
  assert.equal(pace.next({ found: 0, busyAt: 300, lookTime: 0.1 }, 310), 3);
});
