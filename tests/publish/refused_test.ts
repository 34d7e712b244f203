import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  HarkError,
  type HarkErrorCode,
  type NewNotification,
  notify,
  notifyMany,
  type Queryable,
  setContext,
} from "../../mod.ts";
import { test } from "../harness/mod.ts";

const cycle: Record<string, unknown> = {};
cycle.self = cycle;

/** Its field is not JSON's to see. */
class Hidden {
  readonly #id = 1;
  get id(): number {
    return this.#id;
  }
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}

// deno-lint-ignore no-explicit-any -- what the compiler would refuse, plain JavaScript passes in
const wrong = (value: unknown): any => value;

/** What cannot be published: how it is tried, the code, what the message says. */
const refused: [name: string, try_: (db: Queryable) => Promise<unknown>, HarkErrorCode, RegExp][] =
  [
    ...([
      ["a function", () => {}, /payload is a function, which is not JSON/],
      ["a function inside", { a: { f() {} } }, /payload at a\.f is the function f, which is not/],
      ["a function in an array", [() => {}], /at \[0\] is a function, which is not JSON/],
      ["a class", class Order {}, /payload is the class Order, which is not JSON/],
      ["a symbol", Symbol("s"), /is Symbol\(s\), which is not JSON/],
      ["a symbol inside", { s: Symbol("s") }, /at s is Symbol\(s\), which is not JSON/],
      ["undefined", undefined, /payload is undefined, which is not JSON\. Give null or \{\}/],
      ["undefined in an array", { a: [1, undefined] }, /at a\[1\] is undefined, which JSON would/],
      // deno-lint-ignore no-sparse-arrays -- that is what it is about
      ["a hole", [1, , 3], /at \[1\] is undefined/],
      ["a BigInt", 1n, /payload is 1n, which is not JSON\. Give it as text/],
      ["a BigInt inside", { order: { items: [1, 2, 3n] } }, /at order\.items\[2\] is 3n, which is/],
      ["a cycle", cycle, /payload at self is a cycle, which is not JSON/],
      ["NaN", NaN, /payload is NaN, which is not a JSON number/],
      ["Infinity inside", { a: [Infinity] }, /at a\[0\] is Infinity, which is not a JSON number/],
      ["U+0000", "a\0b", /"a\\u0000b", text that PostgreSQL cannot store/],
      ["U+0000 in a name", { "\0": 1 }, /has the name "\\u0000", text that/],
      ["U+0000 behind a backslash", "\\\0", /\\u0000/],
      ["half a surrogate pair", "\ud83d", /\\ud83d/],
      ["half a surrogate pair inside", { a: ["\udc00x"] }, /payload at a\[0\] is "\\udc00x"/],
      [
        "a place that is no word",
        { "b c": { "1": ["\0"] } },
        /payload at \["b c"\]\["1"\]\[0\] is/,
      ],
      ["a Map", new Map([["a", 1]]), /payload is a Map of 1, which JSON would not.*fromEntries/],
      [
        "a Set inside",
        { order: { items: [1, 2, new Set()] } },
        /at order\.items\[2\] is a Set of 0/,
      ],
      ["a RegExp", { r: /x/g }, /at r is \/x\/g, which JSON would not keep/],
      ["an Error", { e: new TypeError("no") }, /at e is TypeError: no, which JSON would not keep/],
      ["an Error with a field", Object.assign(new Error("no"), { code: 1 }), /is Error: no, which/],
      ["an invalid Date", { d: new Date(NaN) }, /at d is an invalid Date, which is not JSON/],
      ["bytes", { b: new Uint8Array(3) }, /at b is a Uint8Array of 3 bytes, which JSON would not/],
      ["a buffer", new ArrayBuffer(2), /is an ArrayBuffer, which JSON would not keep/],
      ["a promise", Promise.resolve({ id: 1 }), /is a promise, which JSON.*Await it/],
      ["what has no fields", new Hidden(), /is a Hidden, which JSON would not keep.*toJSON/],
      ["fetch's headers", { h: new Headers({ a: "b" }) }, /at h is a Headers, which JSON would/],
      ["too deep", nested(20_000), /at \[0\]\[0\].* is nested too deeply/],
      ["a getter that throws", {
        get id() {
          throw new Error("mine");
        },
      }, /at id is not JSON: its getter failed \(mine\)/],
      ["toJSON that throws", {
        a: {
          toJSON() {
            throw new Error("mine");
          },
        },
      }, /payload at a is not JSON: toJSON\(\) failed \(mine\)/],
      [
        "toJSON that gives nothing",
        { a: { toJSON: () => undefined } },
        /at a has a toJSON\(\) that/,
      ],
      [
        "toJSON that gives a Map",
        [{ toJSON: () => ({ m: new Map() }) }],
        /at \[0\]\.m is a Map of 0/,
      ],
    ] as [string, unknown, RegExp][]).map((
      [name, payload, message],
    ): typeof refused[number] => [
      `payload: ${name}`,
      (db) => notify(db, "c", payload),
      "BAD_PAYLOAD",
      message,
    ]),
    ...([
      ["empty", "", /channel "" has no characters/],
      ["201 characters", "x".repeat(201), /has 201 characters/],
      ["201 emoji", "😀".repeat(201), /has (201|402) characters/],
      ["U+0000", "a\0", /cannot store/],
      ["half a surrogate pair", "\ud800", /cannot store/],
      ["a number", 7, /channel is 7/],
      ["undefined", undefined, /channel is undefined/],
      ["an array", ["c"], /channel is \["c"\]/],
    ] as [string, unknown, RegExp][]).map((
      [name, channel, message],
    ): typeof refused[number] => [
      `channel: ${name}`,
      (db) => notify(db, channel as string),
      "BAD_CHANNEL",
      message,
    ]),
    ...([
      ["1,001 characters", "x".repeat(1001), /longer than 1,000/],
      ["1,001 emoji", "😀".repeat(1001), /longer than 1,000/],
      ["a boolean", true, /key is true, which is not text/],
      ["an object", { id: 1 }, /key is \{"id":1\}, which is not text/],
      ["NaN", NaN, /key is NaN, which is not text/],
      ["a number without its last digits", 2 ** 53, /key is 9007199254740992, which is not text/],
      ["U+0000", "\0", /cannot store/],
      ["half a surrogate pair", "a\udfff", /cannot store/],
    ] as [string, unknown, RegExp][]).map((
      [name, key, message],
    ): typeof refused[number] => [
      `key: ${name}`,
      (db) => notify(db, "c", 1, { key: key as string }),
      "BAD_PAYLOAD",
      message,
    ]),
    ...([
      ["an array", [1], /headers \[1\] is not an object/],
      ["text", "a", /headers "a" is not an object/],
      ["a BigInt inside", { a: 1n }, /headers at a is 1n, which is not JSON/],
      ["U+0000 inside", { a: "\0" }, /headers .*\\u0000/],
      ["a function", () => {}, /headers a function is not an object/],
      ["a Date", new Date(0), /headers 1970-01-01T00:00:00.000Z is not an object/],
      ["a Map", new Map(), /headers is a Map of 0, which JSON would not keep/],
    ] as [string, unknown, RegExp][]).map((
      [name, headers, message],
    ): typeof refused[number] => [
      `headers: ${name}`,
      (db) => notify(db, "c", 1, { headers: headers as Record<string, unknown> }),
      "BAD_PAYLOAD",
      message,
    ]),
    [
      "option: unknown",
      (db) => notify(db, "c", 1, wrong({ kye: "k" })),
      "BAD_OPTION",
      /no option "kye"/,
    ],
    [
      "option: null",
      (db) => notify(db, "c", 1, wrong(null)),
      "BAD_OPTION",
      /notify was given null/,
    ],
    ["db: nothing", () => notify(wrong(undefined), "c"), "BAD_OPTION", /db is undefined/],
    [
      "many: not an array",
      (db) => notifyMany(db, wrong({})),
      "BAD_OPTION",
      /notifications is \{\}/,
    ],
    [
      "many: null",
      (db) => notifyMany(db, [wrong(null)]),
      "BAD_OPTION",
      /^notifications\[0\]: .*null/,
    ],
    [
      "many: a hole",
      // deno-lint-ignore no-sparse-arrays -- that is what it is about
      (db) => notifyMany(db, [{ channel: "c" }, , { channel: "c" }] as NewNotification[]),
      "BAD_OPTION",
      /^notifications\[1\]: a notification was given undefined/,
    ],
    [
      "many: a misspelt field",
      (db) => notifyMany(db, [wrong({ chanel: "c" })]),
      "BAD_OPTION",
      /no option "chanel"/,
    ],
    [
      "many: one bad among good",
      (db) => notifyMany(db, [{ channel: "c" }, { channel: "c", payload: 1n }, { channel: "c" }]),
      "BAD_PAYLOAD",
      /^notifications\[1\]: payload is 1n, which is not JSON\. Give it as text, or as a number\.$/,
    ],
    [
      "many: undefined",
      (db) => notifyMany(db, [{ channel: "c", payload: undefined }]),
      "BAD_PAYLOAD",
      /^notifications\[0\]: payload is undefined/,
    ],
    [
      "delayed",
      (db) => notify(db, "c", { a: new Set() }, { delay: 1000 }),
      "BAD_PAYLOAD",
      /payload at a is a Set/,
    ],
    [
      "delayed: the time",
      (db) => notify(db, "c", 1, { deliverAt: new Date(NaN) }),
      "BAD_OPTION",
      /deliverAt is Invalid Date/,
    ],
    [
      "dedupe key",
      (db) => notify(db, "c", 1, { dedupe: "a\0" }),
      "BAD_OPTION",
      /the dedupe key "a\\u0000" holds text/,
    ],
    [
      "context",
      (db) => setContext({ query: (...given) => db.query(...given) }, { user: new Map() }),
      "BAD_PAYLOAD",
      /^context at user is a Map/,
    ],
    [
      "context: a Date",
      (db) => setContext({ query: (...given) => db.query(...given) }, wrong(new Date(0))),
      "BAD_PAYLOAD",
      /^context 1970.* is not an object/,
    ],
  ];

test("what cannot be published is refused with code, value, reason and remedy; nothing is stored", async (context) => {
  const db = context.use(await connect(context.url));
  for (const [name, attempt, code, message] of refused) {
    await context.t.step(name, async () => {
      const error = await attempt(db).then(
        () => assert.fail("it was published"),
        (error: unknown) => error,
      );
      assert(error instanceof HarkError, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert(error.remedy, "it has a remedy");
      assert(error.message.length < 500, "it is not the whole payload");
      assert.deepEqual(await context.sql("select * from hark.log"), []);
    });
  }
});

test("a bad payload leaves the caller's transaction as it was", async (context) => {
  const client = await context.client();
  await client.query("begin");
  await notify(client, "c", 1);
  await assert.rejects(notify(client, "c", "\0"), { code: "BAD_PAYLOAD" });
  await assert.rejects(notify(client, "", 1), { code: "BAD_CHANNEL" });
  await notify(client, "c", 2);
  await client.query("commit");
  const seen: unknown[] = [];
  await new Consumer(client, { id: "c", channels: "c", handle: (n) => void seen.push(n.payload) })
    .drain();
  assert.deepEqual(seen, [1, 2]);
});

test("the limits hold for plain SQL too, by name", async (context) => {
  const db = context.use(await connect(context.url));
  const cases: [string, HarkErrorCode][] = [
    ["select hark.notify('')", "BAD_CHANNEL"],
    ["select hark.notify(repeat('x', 201))", "BAD_CHANNEL"],
    ["select hark.notify(repeat('é', 201))", "BAD_CHANNEL"],
    ["select hark.notify('', key => 'k')", "BAD_CHANNEL"],
    ["select hark.notify('c', key => repeat('x', 1001))", "BAD_PAYLOAD"],
    ["select hark.notify(repeat('é', 200), '{}', repeat('é', 1001))", "BAD_PAYLOAD"],
    ["select hark.notify('c', '{}', null, '[1]')", "BAD_PAYLOAD"],
    ["select hark.notify('c', '\"\\u0000\"')", "DATABASE"],
    ["select hark.notify('c', '{')", "DATABASE"],
  ];
  for (const [statement, code] of cases) {
    await assert.rejects(db.query(statement), { name: "HarkError", code }, statement);
  }
  await assert.rejects(db.query("select hark.notify(null)"), { name: "HarkError" });
  assert.deepEqual(await context.sql("select * from hark.log"), []);
  const allowed = [
    "repeat('x', 200)",
    "repeat('é', 200)",
    "'c', key => ''",
    ...["repeat('x', 200)", "repeat('x', 201)", "repeat('x', 1000)", "repeat('é', 1000)"]
      .map((key) => `'c', key => ${key}`),
  ];
  for (const given of allowed) await db.query(`select hark.notify(${given})`);
  const [{ count }] = await context.sql("select count(*)::int from hark.log");
  assert.equal(count, allowed.length);
});
