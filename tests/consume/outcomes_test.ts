/** What follows a failed attempt. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { DeadLetter, HarkError, RetryAfter } from "../../mod.ts";
import type { ConsumerOptions } from "../../mod.ts";
import { Notification } from "../../src/consume/notification.ts";
import { retryPolicy } from "../../src/consume/check_retry.ts";
import { type RetryPolicy, verdict as verdictFor } from "../../src/consume/retry.ts";

const policy: RetryPolicy = {
  ...retryPolicy(undefined),
  maxAttempts: Infinity,
  random: Math.random,
};
const error = new Error("failed");
const notification = new Notification(
  { id: 7, channel: "c", key: "k", payload: "{}", headers: null, createdAt: 0, isReplay: false },
  1,
);
const verdict = (error: unknown, attempt: number, policy: RetryPolicy) =>
  verdictFor(error, attempt, policy, notification);
const by = (retry: ConsumerOptions["retry"]): RetryPolicy => ({ ...policy, ...retryPolicy(retry) });

/** The wait that follows; fails where none does. */
function waitOf(error: unknown, attempt: number, given: Partial<RetryPolicy> = {}): number {
  const next = verdict(error, attempt, { ...policy, ...given });
  assert(next.kind === "retry", `${next.kind}: ${next.reason}`);
  return next.wait;
}

Deno.test("the wait doubles from the initial one, and is never longer than the maximum", () => {
  const wait = (attempt: number, dice: number) => waitOf(error, attempt, { random: () => dice });
  assert.deepEqual([1, 2, 3, 4, 11, 12, 1000].map((n) => wait(n, 0)), [
    250,
    500,
    1000,
    2000,
    256_000,
    300_000,
    300_000,
  ]);
  assert.deepEqual([1, 2, 3, 4, 11, 12, 1000].map((n) => wait(n, 1)), [
    500,
    1000,
    2000,
    4000,
    512_000,
    600_000,
    600_000,
  ]);
});

Deno.test("whatever the options and the attempt, the wait is a whole number within its bounds", () => {
  const year = 31_622_400_000;
  const duration = fc.oneof(fc.integer({ min: 0, max: year }), fc.constantFrom(0, 1, year));
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 1_000_000 }),
    duration,
    duration,
    fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    (attempt, retryInitial, retryMaximum, dice) => {
      const wait = waitOf(error, attempt, { retryInitial, retryMaximum, random: () => dice });
      assert(Number.isSafeInteger(wait), String(wait));
      assert(wait <= retryMaximum, `${wait} is over ${retryMaximum}`);
      assert(wait >= Math.floor(Math.min(retryInitial, retryMaximum) / 2), `${wait} is too soon`);
      const later = waitOf(error, attempt + 1, { retryInitial, retryMaximum, random: () => dice });
      assert(later >= wait, `${later} after ${wait}`);
    },
  ));
});

Deno.test("it is a dead letter with the last attempt, not before, and never without a limit", () => {
  for (const maxAttempts of [1, 2, 20, 1_000_000]) {
    if (maxAttempts > 1) waitOf(error, maxAttempts - 1, { maxAttempts });
    for (const attempt of [maxAttempts, maxAttempts + 1]) {
      assert.deepEqual(verdict(error, attempt, { ...policy, maxAttempts }), {
        kind: "dead",
        reason: "failed",
      });
    }
  }
  waitOf(error, 1_000_000_000);
});

Deno.test("RetryAfter says when, but not how often", () => {
  for (const delay of [0, 1, 0.4, 1500, 31_622_400_000]) {
    assert.equal(waitOf(new RetryAfter(delay), 7), Math.round(delay));
  }
  assert.equal(verdict(new RetryAfter(5), 20, { ...policy, maxAttempts: 20 }).kind, "dead");
  assert.equal(
    verdict(new RetryAfter(5), 1, policy).reason,
    "its handler asked for a retry after 5 ms",
  );
  assert.equal(verdict(new RetryAfter(5, "busy"), 1, policy).reason, "busy");
});

Deno.test("RetryAfter takes no delay that is none", () => {
  for (const delay of [-1, NaN, Infinity, 31_622_400_001, "5", null, undefined, 5n]) {
    assert.throws(() => new RetryAfter(delay as number), (error) => {
      assert(error instanceof HarkError, String(error));
      assert.equal(error.code, "BAD_OPTION");
      assert.match(error.message, /the delay of RetryAfter is/);
      assert(error.remedy);
      return true;
    });
  }
});

Deno.test("DeadLetter ends it at once, with its message and its cause", () => {
  const cause = new Error("why");
  const dead = new DeadLetter("version 3 is not known", { cause });
  assert.equal(dead.cause, cause);
  assert.deepEqual(verdict(dead, 1, policy), { kind: "dead", reason: "version 3 is not known" });
  assert.equal(verdict(new DeadLetter(), 1, policy).reason, "its handler gave it up");
});

Deno.test("those of another copy of the package count too", () => {
  class Other extends Error {
    readonly delay: unknown;
    constructor(name: string, delay?: unknown) {
      super("theirs");
      this.name = name;
      this.delay = delay;
    }
  }
  assert.deepEqual(verdict(new Other("DeadLetter"), 1, policy), { kind: "dead", reason: "theirs" });
  assert.equal(waitOf(new Other("RetryAfter", 1234), 1), 1234);
  assert.equal(waitOf(new Other("TypeError", 1234), 1, { random: () => 0 }), 250, "only by name");
});

Deno.test("a RetryAfter of another copy cannot ask for a wait that cannot be stored", () => {
  for (const delay of [-5, NaN, Infinity, 1e300, "5", undefined, null]) {
    const theirs = Object.assign(new Error("theirs"), { name: "RetryAfter", delay });
    const wait = waitOf(theirs, 1);
    assert(Number.isSafeInteger(wait) && wait >= 0 && wait <= 31_622_400_000, `${delay}: ${wait}`);
  }
});

const thrown: [name: string, value: unknown, reason: RegExp][] = [
  ["text", "no", /^no$/],
  ["undefined", undefined, /^undefined$/],
  ["null", null, /^null$/],
  ["0", 0, /^0$/],
  ["a symbol", Symbol("s"), /^Symbol\(s\)$/],
  ["an Error without a message", new RangeError(), /RangeError/],
  ["several errors", new AggregateError([new Error("a"), new Error("b")]), /^a; b$/],
  ["an object", {}, /object/],
  ["an object without a prototype", Object.create(null), /./],
  ["an object that cannot be text", { toString: () => ({}) }, /./],
  ["an Error whose message is no text", Object.assign(new Error(), { message: 7 }), /7/],
];
for (const [name, value, reason] of thrown) {
  Deno.test(`a handler may throw ${name}`, () => {
    const next = verdict(value, 1, policy);
    assert.equal(next.kind, "retry");
    assert.match(next.reason, reason);
  });
}

Deno.test("whatever an error says, it can be stored as text", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary" }),
      fc.constantFrom("", "\0", "\ud800", "\udc00x"),
      (a, b) => {
        const { reason } = verdict(new Error(a + b), 1, policy);
        assert(reason.isWellFormed() && !reason.includes("\0"), JSON.stringify(reason));
        if (a.isWellFormed() && !a.includes("\0")) assert(reason.startsWith(a) || a === "");
      },
    ),
  );
});

Deno.test("waits are constant, linear or exponential, up to the maximum", () => {
  const waits = (retry: ConsumerOptions["retry"], ...attempts: number[]) =>
    attempts.map((n) => waitOf(error, n, { ...by(retry), random: () => 1 }));
  assert.deepEqual(waits({ initial: "10s", factor: 1 }, 1, 2, 50), [10_000, 10_000, 10_000]);
  assert.deepEqual(waits({ initial: "10s", step: "5s" }, 1, 2, 3, 1e6), [
    10_000,
    15_000,
    20_000,
    600_000,
  ]);
  assert.deepEqual(waits({ step: 0 }, 1, 9), [500, 500]);
  assert.deepEqual(waits({ initial: 100, factor: 3, maximum: "1s" }, 1, 2, 3, 4), [
    100,
    300,
    900,
    1000,
  ]);
  assert.deepEqual(waits({ initial: 1000, factor: 1.5 }, 1, 2, 3), [1000, 1500, 2250]);
  assert.deepEqual(waits({ initial: 0, factor: 100 }, 1, 1e6), [0, 0]);
});

class Busy extends Error {}
class VeryBusy extends Busy {}
class Wrong extends Error {}

Deno.test("only some errors are retried; others are dead letters at once", () => {
  const kind = (error: unknown, retry: ConsumerOptions["retry"]) =>
    verdict(error, 1, by(retry)).kind;
  const late = new DOMException("late", "TimeoutError");
  const only = { only: [Busy, "TimeoutError"] };
  for (const retried of [new Busy(), new VeryBusy(), late, new RetryAfter(5)]) {
    assert.equal(kind(retried, only), "retry", String(retried));
  }
  for (const dead of [new Wrong(), error, "text", null, undefined, 5, new DeadLetter()]) {
    assert.equal(kind(dead, only), "dead", String(dead));
  }
  const never = { never: [Busy, "TimeoutError"] };
  for (const retried of [new Wrong(), error, "text", null, undefined]) {
    assert.equal(kind(retried, never), "retry");
  }
  for (const dead of [new Busy(), new VeryBusy(), late]) assert.equal(kind(dead, never), "dead");
  assert.equal(kind(new VeryBusy(), { only: [Busy], never: [VeryBusy] }), "dead");
  assert.equal(kind(new Busy(), { only: [Busy], never: [VeryBusy] }), "retry");
});

Deno.test("a function decides, by the error, the attempt and the notification", () => {
  const seen: unknown[] = [];
  const retry = by((error, attempt, { id, key }) => {
    seen.push([error, attempt, id, key]);
    return attempt === 3 ? "dead" : attempt === 2 ? "1.5s" : 0.4;
  });
  assert.equal(waitOf(error, 1, retry), 0);
  assert.equal(waitOf(error, 2, retry), 1500);
  assert.deepEqual(verdict(error, 3, retry), { kind: "dead", reason: "failed" });
  assert.deepEqual(seen, [1, 2, 3].map((attempt) => [error, attempt, 7, "k"]));
});

Deno.test("a function does not decide about what the handler has decided, nor after the last attempt", () => {
  const retry = by(() => {
    throw new Error("called");
  });
  assert.equal(waitOf(new RetryAfter(70), 1, retry), 70);
  assert.equal(verdict(new DeadLetter("bad"), 1, retry).kind, "dead");
  assert.equal(verdict(error, 20, { ...retry, maxAttempts: 20 }).kind, "dead");
});

Deno.test("a function that fails or returns nonsense loses nothing: the notification waits as by default", () => {
  const wrong: unknown[] = [undefined, null, NaN, -1, Infinity, "soon", "DEAD", {}, true, 1e300];
  wrong.push(Promise.resolve(5), 5n, Symbol("s"));
  for (const value of [...wrong, new Error("broken")]) {
    const next = verdict(error, 1, {
      ...by(
        (() => {
          if (value instanceof Error) throw value;
          return value;
        }) as ConsumerOptions["retry"],
      ),
      random: () => 1,
    });
    assert(next.kind === "retry" && next.wait === 500, String(value));
    assert.match(next.problem!, value instanceof Error ? /broken/ : /what retry returned.*"10s"/);
  }
});
