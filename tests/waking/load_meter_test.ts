/** A load is high or low only once it has lasted, and does not go up and down around its limit. */

import assert from "node:assert/strict";
import { fallTime, LoadMeter, riseTime } from "../../src/consume/read/load_meter.ts";

/** At 4 ms a commit, 100 NOTIFYs a second fill 40 % of the time. */
const commitTime = 4;

/** Feeds a meter evenly, `perSecond` for `ms` milliseconds, and measures every 10 ms. */
class Feed {
  readonly meter = new LoadMeter();
  now = 1_000_000;
  count = 7;
  constructor() {
    this.meter.restart(false, this.now, this.count);
  }
  for(ms: number, perSecond: number, known = true): boolean {
    const from = { now: this.now, count: this.count };
    while (this.now < from.now + ms) {
      this.now += 10;
      this.count = from.count + Math.floor((this.now - from.now) * perSecond / 1000);
      this.meter.measure(this.now, known ? this.count : undefined, commitTime);
    }
    return this.meter.isHigh;
  }
}

Deno.test("a load is high once it has lasted, and low once that has lasted", () => {
  const feed = new Feed();
  assert(!feed.for(riseTime - 10, 110), "it has not lasted");
  assert(feed.for(10, 110));
  assert(feed.for(fallTime - 10, 0), "a pause has not lasted");
  assert(!feed.for(10, 0));
});

Deno.test("a load around the limit does not go up and down", () => {
  const feed = new Feed();
  assert(!feed.for(10_000, 95));
  assert(feed.for(2 * riseTime, 105));
  assert(feed.for(20_000, 75), "less than made it high");
  assert(!feed.for(2 * fallTime, 65));
  assert(!feed.for(10_000, 75), "more than made it low");
});

Deno.test("a high load stays high while its count is not known", () => {
  const feed = new Feed();
  feed.for(2 * riseTime, 500);
  assert(feed.for(10 * fallTime, 0, false));
  assert(feed.for(fallTime - 10, 0), "the count is known from now on only");
  assert(!feed.for(10 + fallTime, 0));
});

Deno.test("the limit lies between 50 and 200 a second, however long a commit takes", () => {
  for (const [ms, low, high] of [[0.1, 190, 210], [1000, 45, 55], [undefined, 45, 55]] as const) {
    for (const perSecond of [low, high]) {
      const meter = new LoadMeter();
      meter.restart(false, 0, 0);
      assert.equal(meter.measure(10_000, perSecond * 10, ms), perSecond === high);
    }
  }
});
