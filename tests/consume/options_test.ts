/** What a consumer cannot be made with, and what it is made of where nothing is said. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Consumer, type ConsumerOptions, HarkError, type Queryable } from "../../mod.ts";
import { checkOptions, completeOptions } from "../../src/consume/check_options.ts";

const handle = () => {};
const handlers = { handle, handleBatch: undefined };
const complete = (options: unknown, given = handlers as Parameters<typeof completeOptions>[3]) => {
  const o = options as ConsumerOptions;
  return completeOptions(o, o.id ?? "c", o.channels ?? "c", given);
};

/** Refused by both ways in, by name, with the value and what to do instead. */
function refused(options: unknown, message: RegExp, code = "BAD_OPTION"): void {
  for (const attempt of [() => checkOptions(options as ConsumerOptions), () => complete(options)]) {
    assert.throws(attempt, (error) => {
      assert(error instanceof HarkError, `${Deno.inspect(options)}: ${error}`);
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      assert(error.remedy, `${error.message}: it has a remedy`);
      return true;
    }, `${Deno.inspect(options)} is refused`);
  }
}

const year = 31_622_400_000;
const safe = Number.MAX_SAFE_INTEGER;
/** Numbers: the least, the most, and what they are where nothing is given. */
const numbers: Record<string, [least: number, most: number, otherwise: number | undefined]> = {
  partitions: [1, 1024, 1],
  concurrency: [1, 10_000, 1],
  lease: [100, 86_400_000, 15_000],
  pageSize: [1, 100_000, 500],
  pageBytes: [1, safe, 8 * 1024 * 1024],
  readAhead: [1, 1_000_000, 4000],
  readAheadBytes: [1, safe, 16 * 1024 * 1024],
  pollInterval: [1, 86_400_000, 3000],
  acknowledgeCount: [1, safe, 4000],
  acknowledgeInterval: [0, 86_400_000, 200],
  maxAttempts: [1, 1_000_000_000, 20],
  maxWaiting: [1, 1_000_000, 10_000],
  stopTimeout: [0, 86_400_000, 30_000],
  timeout: [1, 2_000_000_000, undefined],
  "retry.initial": [0, year, 500],
  "retry.maximum": [0, year, 600_000],
  "retry.step": [0, year, undefined],
};

/** Options with one set; `retry.initial` is one of an inner object. */
function withOne(name: string, value: unknown): Record<string, unknown> {
  const [outer, inner] = name.split(".") as [string, string?];
  return { [outer]: inner === undefined ? value : { [inner]: value } };
}

/** Where it is among the checked ones. */
function given(name: string, options: unknown): unknown {
  const { limits, identity, handling, ...o } = complete(options);
  const places: Record<string, unknown> = {
    pageSize: limits.rows,
    pageBytes: limits.bytes,
    lease: identity.lease,
    timeout: handling.timeout,
    "retry.initial": o.retryInitial,
    "retry.maximum": o.retryMaximum,
    "retry.step": o.retryStep,
  };
  return name in places ? places[name] : (o as Record<string, unknown>)[name];
}

for (const [name, [least, most, otherwise]] of Object.entries(numbers)) {
  Deno.test(`${name} is a whole number from ${least} to ${most}`, () => {
    const says = new RegExp(`^${name.replace(".", "\\.")} is `);
    assert.equal(given(name, {}), otherwise);
    for (const value of [least, most]) assert.equal(given(name, withOne(name, value)), value);
    const wrong: unknown[] = [
      least - 1,
      NaN,
      -Infinity,
      -0.5,
      least + 0.5,
      "5",
      "",
      null,
      true,
      5n,
    ];
    wrong.push({}, [], [5], () => 5, new Date(), Symbol("s"), most + 1, 1e300);
    if (name !== "maxAttempts") wrong.push(Infinity);
    for (const value of wrong) refused(withOne(name, value), says);
  });
}

Deno.test("durations that timers take are no longer than timers can wait", () => {
  // A timer of more ends at once.
  for (const name of ["timeout", "stopTimeout", "pollInterval", "lease"]) {
    refused(withOne(name, 2 ** 31), new RegExp(`^${name} is 2147483648`));
  }
});

Deno.test("any number is either taken as it is or refused by name", () => {
  fc.assert(fc.property(
    fc.constantFrom(...Object.keys(numbers)),
    fc.oneof(fc.double(), fc.integer(), fc.maxSafeInteger()),
    (name, value) => {
      const [least, most] = numbers[name]!;
      const fits = Number.isInteger(value) && value >= least && value <= most;
      if (fits || name === "maxAttempts" && value === Infinity) {
        assert.equal(given(name, withOne(name, value)), value);
      } else refused(withOne(name, value), new RegExp(`^${name.replace(".", "\\.")} is `));
    },
  ));
});

Deno.test("whatever is given, it is taken or refused with a HarkError", () => {
  const names = [
    ...Object.keys(numbers).map((name) => name.split(".")[0]!),
    "id",
    "channels",
    "from",
  ];
  names.push("filter", "retry", "onFailure", "transactional", "onError", "handle", "batchSize");
  fc.assert(
    fc.property(
      fc.constantFrom(...names),
      fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true }),
      (name, value) => {
        try {
          checkOptions({ [name]: value });
        } catch (error) {
          assert(error instanceof HarkError, `${name}: ${(error as Error).stack}`);
          assert(error.remedy ?? /^BAD_/.test(error.code), error.message);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("a page may be larger than what is read ahead by default", () => {
  assert.equal(complete({ pageSize: 5000 }).readAhead, 5000);
  assert.equal(complete({ pageSize: 50_000 }).limits.scanned, 50_000);
});

Deno.test("onFailure: block retries without end, unless a number of attempts is given", () => {
  assert.deepEqual([complete({}).block, complete({ onFailure: "wait" }).block], [false, false]);
  const block = complete({ onFailure: "block" });
  assert.deepEqual([block.block, block.maxAttempts], [true, Infinity]);
  assert.equal(complete({ onFailure: "block", maxAttempts: 3 }).maxAttempts, 3);
  assert.equal(complete({ maxAttempts: Infinity }).maxAttempts, Infinity);
  for (const value of ["", "stop", null, true, 1, ["wait"], {}]) {
    refused({ onFailure: value }, /^onFailure is .*wait, block/);
  }
});

Deno.test("transactional is true or false", () => {
  assert.equal(complete({}).identity.transactional, false);
  assert.equal(complete({ transactional: true }).identity.transactional, true);
  for (const value of ["", "true", 0, 1, null, {}]) {
    refused({ transactional: value }, /^transactional is /);
  }
});

Deno.test("unknown names are told, with the known ones", () => {
  assert.throws(() => checkOptions({ retries: 3 } as ConsumerOptions), {
    code: "BAD_OPTION",
    message: /no option "retries".*Did you mean maxAttempts\? Known options: .*maxAttempts/,
  });
  assert.throws(() => checkOptions({ retry: { max: 3 } } as ConsumerOptions), {
    code: "BAD_OPTION",
    message: /retry has no option "max".*initial, maximum, factor, step, only, never/,
  });
  refused({ filter: { keys: ["a"] } }, /filter has no option "keys".*key, payload, headers/);
  refused({ channels: [{ name: "c", start: "now" }] }, /no option "start".*name, from/);
});

for (const name of ["handle", "handleBatch", "onHandled", "onError", "onDeadLetter"]) {
  Deno.test(`${name} is a function`, () => {
    for (const value of [null, "f", 1, {}, []]) {
      assert.throws(() => checkOptions({ [name]: value }), {
        code: "BAD_OPTION",
        message: new RegExp(`^${name} is `),
        remedy: /function/,
      });
    }
  });
}

Deno.test("retry is a function, or options with a factor or a step and with kinds of errors", () => {
  assert.equal(complete({}).retryFactor, 2);
  for (const factor of [1, 1.5, 100]) {
    assert.equal(complete({ retry: { factor } }).retryFactor, factor);
  }
  for (const factor of [0, 0.9, 101, NaN, Infinity, "2", null, 2n, {}]) {
    refused({ retry: { factor } }, /^retry\.factor is /);
  }
  refused({ retry: { factor: 2, step: 5 } }, /^retry\.step is 5.*either factor or step/);
  for (const name of ["only", "never"]) {
    for (const kinds of [[], [""], [5], [null], Error, "Error", [() => {}], [Error, {}]]) {
      refused({ retry: { [name]: kinds } }, new RegExp(`^retry\\.${name} is `));
    }
    complete({ retry: { [name]: [Error, "TimeoutError", class extends TypeError {}] } });
  }
  for (const retry of [5, "5s", true, [], new Map()]) {
    refused({ retry }, /^retry was given .*options/);
  }
  assert.equal(typeof complete({ retry: () => 5 }).retryDecide, "function");
});

Deno.test("limits are a concurrency and rates of a key, a rate of all, and a function", () => {
  assert.equal(complete({}).sharing, undefined);
  assert.deepEqual([complete({}).readAhead, complete({ limits: {} }).readAhead], [4000, 20_000]);
  const rate = { count: 5, per: "1m" };
  const { sharing } = complete({
    limits: { perKey: { concurrency: 2, rate }, rate, by: () => "a" },
  });
  assert.deepEqual([sharing!.concurrency, sharing!.perGroup, sharing!.rate], [
    2,
    { count: 5, per: 60_000 },
    { count: 5, per: 60_000 },
  ]);
  for (const limits of [null, 5, [], "fair"]) refused({ limits }, /^limits was given /);
  refused({ limits: { fair: true } }, /limits has no option "fair".*perKey, rate, by/);
  refused({ limits: { perKey: 5 } }, /^limits\.perKey was given 5/);
  refused({ limits: { perKey: { count: 5 } } }, /limits\.perKey has no option "count"/);
  for (const concurrency of [0, 1.5, 10_001, Infinity, "2"]) {
    refused({ limits: { perKey: { concurrency } } }, /^limits\.perKey\.concurrency is /);
  }
  refused({ limits: { by: "tenant" } }, /^limits\.by is "tenant"/);
  for (const place of ["limits.rate", "limits.perKey.rate"]) {
    const at = (rate: unknown) => place === "limits.rate" ? { rate } : { perKey: { rate } };
    const says = (end: string) => new RegExp(`^${place.replaceAll(".", "\\.")}${end}`);
    for (const rate of [null, 5, "5/s"]) refused({ limits: at(rate) }, says(" was given "));
    for (const count of [undefined, 0, -1, 0.5, Infinity, "5"]) {
      refused({ limits: at({ count, per: "1s" }) }, says("\\.count is "));
    }
    for (const per of [undefined, 0, "1", "2d", Infinity]) {
      refused({ limits: at({ count: 5, per }) }, says("\\.per is "));
    }
    refused({ limits: at({ count: 5, per: 5, burst: 5 }) }, says(' has no option "burst"'));
  }
  const batch = { handle: undefined, handleBatch: () => {} };
  assert.throws(() => complete({ limits: {} }, batch), { message: /^limits is .*with handle\./ });
});

Deno.test("around and aroundBatch are functions or lists of them, each for its kind of handler", () => {
  const handleBatch = () => {};
  for (
    const [name, remedy] of [["around", /with handle\./], ["aroundBatch", /handleBatch/]] as const
  ) {
    for (const value of [null, "f", 1, {}, [null], [handle, 1]]) {
      refused({ [name]: value }, new RegExp(`^${name} is `));
    }
    const other = name === "around" ? { handleBatch } : { handle };
    const given = name === "around" ? { handle: undefined, handleBatch } : handlers;
    assert.throws(() => checkOptions({ [name]: handle, ...other }), { remedy });
    assert.throws(() => complete({ [name]: [handle] }, given), { remedy });
    assert.doesNotThrow(() => complete({ [name]: [] }, given));
  }
});

Deno.test("a consumer has either handle or handleBatch, and batchSize goes with the latter", () => {
  const handleBatch = () => {};
  assert.throws(() => checkOptions({ handle, handleBatch }), {
    code: "BAD_OPTION",
    message: /both/,
  });
  assert.throws(() => complete({}, { handle: undefined, handleBatch: undefined }), {
    code: "BAD_OPTION",
    message: /"c" has no handler.*handleBatch/,
  });
  const batch = { handle: undefined, handleBatch };
  assert.equal(complete({}).batchSize, 1);
  assert.equal(complete({}, batch).batchSize, 100);
  assert.equal(complete({ batchSize: 10_000 }, batch).batchSize, 10_000);
  refused({ batchSize: 10 }, /^batchSize is 10\. Give it only together with handleBatch/);
  for (const batchSize of [0, -1, 1.5, NaN, Infinity, 10_001, "5", null]) {
    assert.throws(() => checkOptions({ handleBatch, batchSize: batchSize as number }), {
      code: "BAD_OPTION",
      message: /^batchSize is /,
    });
  }
});

Deno.test("a subclass with handleBatch may be given a batchSize", () => {
  class Mine extends Consumer {
    override handleBatch() {}
  }
  const db: Queryable = { query: () => Promise.resolve({ rows: [] }) };
  new Mine(db, { id: "c", channels: "c", batchSize: 10 });
});

Deno.test("a filter is a key or several, a payload, headers, or all of these", () => {
  const filter = (filter: unknown) => complete({ filter }).identity.filter;
  assert.equal(filter(undefined), null);
  assert.equal(filter({ key: "a" }), `{"key":["a"]}`);
  assert.equal(filter({ key: ["a", 'b"'] }), `{"key":["a","b\\""]}`);
  assert.equal(filter({ payload: 0 }), `{"payload":0}`);
  assert.equal(filter({ payload: null }), `{"payload":null}`);
  assert.deepEqual(JSON.parse(filter({ key: "", payload: { a: [1] }, headers: { h: null } })!), {
    key: [""],
    payload: { a: [1] },
    headers: { h: null },
  });
});

Deno.test("a start that is null is not taken for the beginning", () => {
  refused({ from: null }, /^from is null/);
});

Deno.test("headers of a filter that are null would match nothing, so they are refused", () => {
  assert.throws(() => complete({ filter: { headers: null } }), { name: "HarkError" });
});

Deno.test("a filter that says nothing, or what cannot be, is refused", () => {
  for (const filter of [{}, { key: undefined }, "a", 1, true]) refused({ filter }, /^filter /);
  refused({ filter: [] }, /^filter was given \[\]/);
  for (const key of [[], NaN, [2 ** 53], true, null, {}, ["a", undefined]]) {
    refused({ filter: { key } }, /^filter\.key is /);
  }
  for (const filter of [{ key: "a\0" }, { key: ["\ud800"] }, { key: "x".repeat(1001) }]) {
    refused({ filter }, /key/, "BAD_PAYLOAD");
  }
  for (const payload of [NaN, 5n, () => {}, Symbol("s"), "\0", { a: "\ud800" }]) {
    refused({ filter: { payload } }, /filter\.payload/, "BAD_PAYLOAD");
  }
  for (const headers of [[], "h", 7, { a: NaN }]) {
    refused({ filter: { headers } }, /headers/, "BAD_PAYLOAD");
  }
});

Deno.test("channels are one or several, some with a start of their own", () => {
  const of = (channels: unknown) => complete({ channels });
  assert.deepEqual(of("c").identity.channels, ["c"]);
  assert.deepEqual(of(["b", "a", "b"]).identity.channels, ["a", "b"]);
  assert.equal(of(["a"]).channelStarts, null);
  const time = new Date("2026-01-02T03:04:05.678Z");
  const mixed = of(["b", { name: "a", from: "now" }, { name: "c", from: { id: 7 } }, {
    name: "d",
    from: { time },
  }]);
  assert.deepEqual(mixed.identity.channels, ["a", "b", "c", "d"]);
  assert.deepEqual(JSON.parse(mixed.channelStarts!), [
    { channel: "a", kind: "now", id: null, time: null },
    { channel: "c", kind: "id", id: 7, time: null },
    { channel: "d", kind: "time", id: null, time: time.toISOString() },
  ]);
});

Deno.test("channels that cannot be are refused", () => {
  for (const channels of [[], 7, {}, true]) refused({ channels }, /^channels is /);
  for (
    const channels of ["", "x".repeat(201), ["a", ""], [7], [null], [["a"]], ["a\0"], [{
      from: "now",
    }]]
  ) {
    refused({ channels }, /channel/, "BAD_CHANNEL");
  }
  for (
    const from of [
      "end",
      { id: 0 },
      { id: 1.5 },
      { time: "now" },
      { time: new Date(NaN) },
      {},
      null,
      7,
    ]
  ) {
    refused({ channels: [{ name: "a", from }] }, /from/);
    if (from !== null) refused({ from }, /from/);
  }
  refused({ channels: [{ name: "a" }] }, /^from of channel "a" is undefined/);
  refused({ channels: { name: "a", from: "now" } }, /^channels is /);
});

Deno.test("a consumer needs a name that can be stored", () => {
  for (const id of ["", null]) {
    assert.throws(() => checkOptions({ id: id as string }), {
      code: "BAD_OPTION",
      message: /no id/,
    });
  }
  for (const id of [7, {}, ["c"], "x".repeat(201), "a\0", "\udc00"]) {
    assert.throws(() => checkOptions({ id: id as string }), {
      code: "BAD_OPTION",
      message: /^consumer id /,
      remedy: /./,
    });
  }
  assert.equal(complete({ id: "😀".repeat(200) }).identity.consumer.length, 400);
});

Deno.test("a transactional consumer is refused a connection that has no transactions of its own", async () => {
  const asked: string[] = [];
  const db: Queryable = {
    query: (text) => {
      asked.push(text);
      return Promise.reject(new Error(`asked ${text}`));
    },
  };
  const consumer = new Consumer(db, { id: "c", channels: "c", handle, transactional: true });
  await assert.rejects(consumer.run(), {
    code: "BAD_OPTION",
    message: /transactional consumer needs a database that can open transactions/,
    remedy: /connect\(\)/,
  });
  assert.deepEqual(asked, [], "before anything is asked or registered");
});

Deno.test("a consumer without id, channels or handler is refused where it is made", () => {
  const silent: Queryable = { query: () => Promise.reject(new Error("sent")) };
  const make = (o: object) => () => new Consumer(silent, o);
  const whole = { id: "c", channels: "c", handle() {} };
  const { id: _id, ...anonymous } = whole;
  const { channels: _channels, ...deaf } = whole;
  const { handle: _handle, ...idle } = whole;
  assert.throws(make(anonymous), { code: "BAD_OPTION", message: /^a consumer has no id/ });
  assert.throws(make(deaf), { code: "BAD_OPTION", message: /^channels of consumer "c"/ });
  assert.throws(make(idle), { code: "BAD_OPTION", message: /^consumer "c" has no handler/ });
  assert.throws(make({}), { code: "BAD_OPTION" });
  make(whole)();
  class Later extends Consumer {
    override id = "c";
    override channels = "c";
    override handle() {}
  }
  new Later(silent);
});

Deno.test("waits between attempts that contradict each other are refused", () => {
  refused({ retry: { initial: "1h", maximum: "1m" } }, /^retry\.maximum is "1m".*"1h"/);
  refused({ retry: { initial: 1000, maximum: 999 } }, /^retry\.maximum is 999/);
  // A default gives way.
  assert.equal(complete({ retry: { initial: "1h" } }).retryMaximum, 3_600_000);
  assert.equal(complete({ retry: { maximum: 5 } }).retryInitial, 5);
  assert.equal(complete({}).retryMaximum, 600_000);
});
