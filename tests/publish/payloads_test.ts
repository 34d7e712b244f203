import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import {
  connect,
  Consumer,
  type Notification,
  notify,
  notifyMany,
  type Queryable,
} from "../../mod.ts";
import { Reading } from "../faults/_support/running.ts";
import { test } from "../harness/mod.ts";

/** Drains one channel or several. */
async function drained(db: Queryable, channels: string | string[]): Promise<Notification[]> {
  const seen: Notification[] = [];
  await new Consumer(db, { id: "c", channels, handle: (n) => void seen.push(n) }).drain();
  return seen;
}

test("5,000 times é, and 5 MB, arrive whole", async (context) => {
  const db = context.use(await connect(context.url));
  const big = { text: "é".repeat(5000), more: "x".repeat(5_000_000), emoji: "🐘".repeat(10_000) };
  await notify(db, "c", "é".repeat(5000));
  await notify(db, "c", big);
  await notifyMany(db, [{ channel: "c", payload: big }]);
  const got = await drained(db, "c");
  assert.equal(got[0]!.payload, "é".repeat(5000));
  assert.deepEqual(got[1]!.payload, big);
  assert.deepEqual(got[2]!.payload, big);
});

/** Texts that break what is put together by hand. */
const hostile = [
  "it's",
  '"double"',
  "back\\slash",
  "\\'; drop table hark.log; --",
  "'); select pg_sleep(100); --",
  "$1 $$ $hark$ :name %s {0}",
  "UPPER lower MiXeD",
  "hyphen-ated.dotted/slashed:colon",
  "white \t\n\r space",
  "Ünïcödé 漢字 🐘👩‍👩‍👧",
  "null",
  "\u2028\u2029\u0001\u007f",
  "😀".repeat(200),
  "x".repeat(200),
];

test("payloads, keys, headers and channels full of quotes, SQL and emoji arrive as they were", async (context) => {
  const db = context.use(await connect(context.url));
  const reading = context.use(
    new Reading(db, hostile, { from: "beginning", pollInterval: 600_000 }),
  );
  for (const text of hostile) {
    const payload = { [text]: text, list: [text, { [text]: null }] };
    await notify(db, text, payload, { key: text, headers: { [text]: text } });
    await notifyMany(db, [{ channel: text, payload: text, key: text, headers: { [text]: text } }]);
  }
  await reading.inbox.atLeast(hostile.length * 2);
  const got = await drained(db, hostile);
  for (const all of [got, reading.inbox.items]) {
    for (const [at, text] of hostile.entries()) {
      const [one, many] = [all[at * 2]!, all[at * 2 + 1]!];
      for (const n of [one, many]) {
        assert.deepEqual([n.channel, n.key, n.headers], [text, text, { [text]: text }]);
      }
      assert.deepEqual(one.payload, { [text]: text, list: [text, { [text]: null }] });
      assert.equal(many.payload, text);
    }
  }
  assert.equal((await context.sql("select count(*)::int from hark.log"))[0].count, 28);
});

test("null, strings, numbers, booleans, arrays and nothing at all are payloads", async (context) => {
  const db = context.use(await connect(context.url));
  const values = [null, "", "text", 0, -1.5e-7, 2 ** 53 - 1, true, false, [], [[], [null]], {}, {
    a: undefined,
    b: new Date(0),
  }];
  for (const value of values) {
    await notify(db, "c", value);
    await notifyMany(db, [{ channel: "c", payload: value }]);
  }
  await notify(db, "c");
  await notifyMany(db, [{ channel: "c" }]);
  const got = (await drained(db, "c")).map((n) => n.payload);
  const expected = values.flatMap((v) => [v, v]).map((v) => JSON.parse(JSON.stringify(v)));
  assert.deepEqual(got, [...expected, {}, {}]);
});

test("what JSON keeps by itself or by toJSON is a payload, and is stored as JSON has it", async (context) => {
  const db = context.use(await connect(context.url));
  class Order {
    readonly id = 1;
    readonly #secret = 2;
    get secret() {
      return this.#secret;
    }
  }
  const shared = { a: 1 };
  const cases: [value: unknown, stored: unknown][] = [
    [new Date(0), "1970-01-01T00:00:00.000Z"],
    [new URL("http://x/y"), "http://x/y"],
    [new Order(), { id: 1 }],
    [{ a: undefined, b: { c: undefined } }, { b: {} }],
    [-0, 0],
    [[shared, shared], [{ a: 1 }, { a: 1 }]],
    [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
    [[new String("x"), new Number(1), new Boolean(false)], ["x", 1, false]],
    [{ deep: { toJSON: () => [new Date(0)] } }, { deep: ["1970-01-01T00:00:00.000Z"] }],
    [{ toJSON: (name: string) => `under "${name}"` }, 'under ""'],
  ];
  for (const [value] of cases) {
    await notify(db, "c", value);
    await notifyMany(db, [{ channel: "c", payload: { value }, headers: { value } }]);
  }
  const got = await drained(db, "c");
  for (const [i, [, stored]] of cases.entries()) {
    assert.deepEqual(got[2 * i]!.payload, stored);
    if (typeof stored === "string" && stored.startsWith("under")) continue;
    assert.deepEqual(got[2 * i + 1]!.payload, { value: stored });
    assert.deepEqual(got[2 * i + 1]!.headers, { value: stored });
  }
});

test("a number or a bigint as a key is its digits", async (context) => {
  const db = context.use(await connect(context.url));
  const keys = [5, -1, 1.5, 0, 12345678901234567890n];
  for (const key of keys) {
    await notify(db, "c", 1, { key, dedupe: key });
    await notifyMany(db, [{ channel: "c", key, dedupe: { key } }]); // a duplicate
  }
  assert.deepEqual((await drained(db, "c")).map((n) => n.key), keys.map(String));
  const only = new Consumer(db, { id: "f", channels: "c", filter: { key: [5, 0] }, handle() {} });
  assert.equal(await only.drain(), 2);
});

test("text that only looks like U+0000 or a surrogate is stored", async (context) => {
  const db = context.use(await connect(context.url));
  const texts = ["\\u0000", "\\\\u0000", "\\ud800", "a\\u0000b", "\u{1f418}", "\\" + "\u{1f418}"];
  for (const text of texts) await notify(db, "c", { [text]: text });
  const got = (await drained(db, "c")).map((n) => n.payload);
  assert.deepEqual(got, texts.map((text) => ({ [text]: text })));
});

test("keys of nothing, of one character and of 1,000 are keys", async (context) => {
  const db = context.use(await connect(context.url));
  const keys = ["", "k", "x".repeat(1000), "😀".repeat(1000), null];
  for (const key of keys) {
    await notify(db, "c", 1, { key });
    await notifyMany(db, [{ channel: "c", key }]);
  }
  await notify(db, "c", 1, {});
  const got = (await drained(db, "c")).map((n) => n.key);
  assert.deepEqual(got, [...keys.flatMap((key) => [key, key]), null]);
});

/** Any JSON value that jsonb can hold: no U+0000. JSON has no minus zero either: it is written "0". */
const json = fc.jsonValue({ maxDepth: 4, stringUnit: "binary" })
  .filter((value) => !JSON.stringify(value).replaceAll("\\\\", "").includes("\\u0000"))
  .map((value) => JSON.parse(JSON.stringify(value)));

test("any JSON value comes back equal, by either way in and either way out", async (context) => {
  const db = context.use(await connect(context.url));
  const reading = context.use(new Reading(db, "many", { from: "beginning" }));
  let count = 0;
  // Few runs of many values: what takes time is each drain.
  const many = fc.array(json, { minLength: 1, maxLength: 20, size: "max" });
  const text = fc.string({ unit: "binary", maxLength: 20 })
    .filter((t) => !t.includes("\0"));
  await fc.assert(
    fc.asyncProperty(many, text, async (values, key) => {
      for (const value of values) await notify(db, "one", value, { key });
      await notifyMany(db, values.map((payload) => ({ channel: "many", payload, key })));
      const one = await drained(db, "one");
      assert.deepEqual(one.map((n) => n.payload), values);
      assert(one.every((n) => n.key === key));
      await reading.inbox.atLeast(count + values.length);
      assert.deepEqual(reading.payloads.slice(count), values);
      count += values.length;
    }),
    { numRuns: 30 },
  );
});
