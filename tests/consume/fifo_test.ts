/** The two queues beside arrays that do the same slowly. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Agenda, Fifo } from "../../src/consume/state/fifo.ts";

const numbers = fc.array(fc.nat(9), { maxLength: 8 });
const moves = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("push" as const), count: fc.nat(1500) }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("shift" as const), count: fc.nat(1500) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("unshift" as const), items: numbers }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("keep" as const), of: fc.nat(3) }) },
  ),
  { maxLength: 40 },
);

Deno.test("a Fifo gives what an array gives, however it is filled and emptied", () => {
  fc.assert(fc.property(moves, (moves) => {
    const fifo = new Fifo<number>();
    let model: number[] = [];
    let next = 0;
    for (const move of moves) {
      switch (move.do) {
        case "push":
          for (let n = 0; n < move.count; n++) {
            fifo.push(++next);
            model.push(next);
          }
          break;
        case "shift":
          for (let n = 0; n < move.count; n++) assert.equal(fifo.shift(), model.shift());
          break;
        case "unshift":
          fifo.unshift(move.items);
          model.unshift(...move.items);
          break;
        case "keep": {
          const kept = (n: number) => n % 4 !== move.of;
          fifo.keep(kept);
          model = model.filter(kept);
        }
      }
      assert.equal(fifo.size, model.length);
      assert.equal(fifo.peek(), model[0]);
      assert.deepEqual([...fifo], model);
    }
  }));
});

Deno.test("a Fifo that is never empty does not grow with what has passed through it", () => {
  const fifo = new Fifo<Uint8Array>();
  for (let n = 0; n < 5000; n++) {
    const item = new Uint8Array(1);
    fifo.push(item);
    if (n > 10) fifo.shift();
  }
  assert.equal(fifo.size, 11);
  assert.equal([...fifo].length, 11);
});

const times = fc.oneof(fc.nat(20), fc.constantFrom(-1, 0.5, 1e300, Infinity, -Infinity));
const plans = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("add" as const), at: times }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("take" as const), now: times }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("keep" as const), of: fc.nat(3) }) },
  ),
  { maxLength: 120, size: "max" },
);

Deno.test("an Agenda gives the earliest that is due, each once, and nothing before its time", () => {
  fc.assert(fc.property(plans, (plans) => {
    const agenda = new Agenda<number>();
    let model: { at: number; item: number }[] = [];
    let next = 0;
    for (const plan of plans) {
      switch (plan.do) {
        case "add":
          agenda.add(plan.at, ++next);
          model.push({ at: plan.at, item: next });
          break;
        case "take": {
          const earliest = Math.min(...model.map(({ at }) => at));
          const item = agenda.take(plan.now);
          if (model.length === 0 || earliest > plan.now) {
            assert.equal(item, undefined);
            break;
          }
          // Of those due at the same time it may be any.
          const found = model.find((one) => one.item === item);
          assert.equal(found?.at, earliest);
          model = model.filter((one) => one !== found);
          break;
        }
        case "keep": {
          const kept = (n: number) => n % 4 !== plan.of;
          agenda.keep(kept);
          model = model.filter(({ item }) => kept(item));
        }
      }
      assert.equal(agenda.size, model.length);
      assert.equal(agenda.next, Math.min(...model.map(({ at }) => at)));
    }
    const left: number[] = [];
    for (let item; (item = agenda.take(Infinity)) !== undefined;) left.push(item);
    const at = (item: number) => model.find((one) => one.item === item)!.at;
    assert.deepEqual(
      left.map(at),
      model.map(({ at }) => at).sort((a, b) => a < b ? -1 : a > b ? 1 : 0),
    );
  }));
});
