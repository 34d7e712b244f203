import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  HarkError,
  type HarkErrorCode,
  notify,
  notifyMany,
  type Queryable,
} from "../../mod.ts";
import { test } from "../harness/mod.ts";

const cycle: Record<string, unknown> = {};
cycle.self = cycle;

// deno-lint-ignore no-explicit-any -- what the compiler would refuse, plain JavaScript passes in
const wrong = (value: unknown): any => value;

/** What cannot be published: how it is tried, the code, what the message says. */
const refused: [name: string, try_: (db: Queryable) => Promise<unknown>, HarkErrorCode, RegExp][] =
  [
    ...([
      ["a function", () => {}, /payload a function is not JSON/],
      ["a function inside", { a: { f() {} } }, /at "f" is not JSON/],
      ["a function in an array", [() => {}], /at "0" is not JSON/],
      ["a symbol", Symbol("s"), /Symbol\(s\) is not JSON/],
      ["a symbol inside", { s: Symbol("s") }, /at "s" is not JSON/],
      ["a BigInt", 1n, /1n is not JSON/],
      ["a BigInt inside", { n: 1n }, /is not JSON/],
      ["a cycle", cycle, /is not JSON/],
      ["NaN", NaN, /NaN.* is not a JSON number/],
      ["Infinity inside", { a: [Infinity] }, /at "0" is not a JSON number/],
      ["U+0000", "a\0b", /\\u0000, which PostgreSQL cannot store/],
      ["U+0000 in a name", { "\0": 1 }, /\\u0000/],
      ["U+0000 behind a backslash", "\\\0", /\\u0000/],
      ["half a surrogate pair", "\ud83d", /\\ud83d/],
      ["half a surrogate pair inside", { a: ["\udc00x"] }, /\\udc00/],
      ["toJSON that throws", {
        toJSON: () => {
          throw new Error("mine");
        },
      }, /is not JSON/],
      ["toJSON that gives nothing", { toJSON: () => undefined }, /is not JSON/],
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
      ["a number", 42, /key 42 is not text/],
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
      ["an array", [1], /headers \[1\] are not an object/],
      ["text", "a", /headers "a" are not an object/],
      ["a BigInt inside", { a: 1n }, /headers .*is not JSON/],
      ["U+0000 inside", { a: "\0" }, /headers .*\\u0000/],
      ["a function", () => {}, /are not an object/],
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
    ["option: null", (db) => notify(db, "c", 1, wrong(null)), "BAD_OPTION", /notify is null/],
    ["db: nothing", () => notify(wrong(undefined), "c"), "BAD_OPTION", /db is undefined/],
    [
      "many: not an array",
      (db) => notifyMany(db, wrong({})),
      "BAD_OPTION",
      /notifications is \{\}/,
    ],
    ["many: a hole", (db) => notifyMany(db, [wrong(null)]), "BAD_OPTION", /notification is null/],
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
      /is not JSON/,
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
      assert(error.message.length < 400, "it is not the whole payload");
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
});
