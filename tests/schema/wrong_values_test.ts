/** Every public function, given what is wrong: the value, the reason and the remedy are said. */

import assert from "node:assert/strict";
import {
  cancelDelayed,
  cleanup,
  connect,
  Consumer,
  consumerDetails,
  consumers,
  Database,
  DeadLetter,
  deadLetters,
  discard,
  HarkError,
  installedVersion,
  migrate,
  notify,
  notifyMany,
  pause,
  type Queryable,
  removeConsumer,
  replay,
  requireSchema,
  resume,
  retry,
  RetryAfter,
  rewatch,
  seek,
  setContext,
  setPartitions,
  status,
  subscribe,
  uninstall,
  unwatch,
  unwatchSql,
  watch,
  watched,
  watches,
  watchSql,
} from "../../mod.ts";
import { startEmbedded } from "../../src/embedded/mod.ts";
import { show } from "../../src/show.ts";
import { test } from "../harness/mod.ts";

// deno-lint-ignore no-explicit-any -- what the compiler would refuse, plain JavaScript passes in
type Any = any;

const silent: Queryable = { query: () => Promise.reject(new Error("it was sent to the server")) };
const url = "postgres://localhost:1/none";
const options = { id: "billing", channels: "c", handle() {} };

/** Values with the text by which a message shows them. */
const values: [value: unknown, shown: string][] = [
  [null, "null"],
  [NaN, "NaN"],
  [-1, "-1"],
  [10n, "10n"],
  ["", '""'],
  [true, "true"],
  [Promise.resolve(), "a promise"],
  [function foo() {}, "the function foo"],
  [class Foo {}, "the class Foo"],
  [new Date(NaN), "Invalid Date"],
  [{ a: NaN }, '{"a":NaN}'],
  [[1, undefined], "[1,undefined]"],
  [new Map(), "a Map of 0"],
  [Symbol("s"), "Symbol(s)"],
  ["y".repeat(300), `"${"y".repeat(76)}...`],
];

/** Calls that refuse a value, and which values they take or refuse for what is in them. */
const calls: [name: string, call: (value: Any) => unknown, otherwise?: readonly string[]][] = [
  ["channel", (v) => notify(silent, v)],
  ["channels", (v) => new Consumer(silent, { channels: v }), ["[1,undefined]"]],
  ["a channel", (v) => new Consumer(silent, { channels: ["c", v] })],
  ["channels", (v) => subscribe(silent, v).next(), ["null", "[1,undefined]"]],
  ["key", (v) => notify(silent, "c", 1, { key: v }), ["null", "-1", "10n", '""', "y"]],
  ["filter.key", (v) => new Consumer(silent, { filter: { key: v } }), ["-1", "10n", '""', "y"]],
  ["delay", (v) => notify(silent, "c", 1, { delay: v })],
  ["deliverAt", (v) => notify(silent, "c", 1, { deliverAt: v })],
  ["dedupe", (v) => notify(silent, "c", 1, { dedupe: v }), ["-1", "10n", "y"]],
  ["notifications", (v) => notifyMany(silent, v), ["[1,undefined]"]],
  ["notifications[1]", (v) => notifyMany(silent, [{ channel: "c" }, v])],
  ["number", (v) => cancelDelayed(silent, v)],
  ["consumer id", (v) => new Consumer(silent, { id: v }), ["null", '""', "y"]],
  ["consumer id", (v) => pause(silent, v), ["null", '""', "y"]],
  ["partitions", (v) => setPartitions(silent, "c", v)],
  ["from", (v) => new Consumer(silent, { from: v })],
  ["to", (v) => seek(silent, "c", v)],
  ["from", (v) => replay(silent, "c", { from: v })],
  ["handle", (v) => new Consumer(silent, { handle: v }), ["function", "class"]],
  ["onError", (v) => new Consumer(silent, { onError: v }), ["function", "class"]],
  ["concurrency", (v) => new Consumer(silent, { concurrency: v })],
  ["timeout", (v) => new Consumer(silent, { timeout: v })],
  ["transactional", (v) => new Consumer(silent, { transactional: v }), ["true"]],
  ["signal", (v) => new Consumer(silent, options).drain({ signal: v })],
  ["signal", (v) => subscribe(silent, "c", { signal: v }).next()],
  ["olderThan", (v) => cleanup(silent, { olderThan: v })],
  ["table", (v) => watch(silent, v), ["y"]],
  ["table", (v) => unwatch(silent, v), ["y"]],
  ["table", (v) => watched(v), ["y"]],
  ["connectTimeout", (v) => connect(url, { connectTimeout: v })],
  ["applicationName", (v) => connect(url, { applicationName: v }), ['""', "y"]],
  ["listen", (v) => connect(url, { listen: v }), ["true", '""', "yyy"]],
  ["the delay of RetryAfter", (v) => new RetryAfter(v)],
  ["work", (v) => new Database(url).transaction(v), ["function", "class"]],
  ["port", (v) => startEmbedded({ port: v })],
];

/** Functions that take options, with an option that is misspelt. */
const optioned: [name: string, call: (options: Any) => unknown][] = [
  ["notify", (o) => notify(silent, "c", 1, o)],
  ["a notification", (o) => notifyMany(silent, [{ channel: "c", ...o }])],
  ["dedupe", (o) => notify(silent, "c", 1, { dedupe: o })],
  ["a consumer", (o) => new Consumer(silent, o)],
  ["retry", (o) => new Consumer(silent, { retry: o })],
  ["filter", (o) => new Consumer(silent, { filter: o })],
  ["run", (o) => new Consumer(silent, options).run(o)],
  ["drain", (o) => new Consumer(silent, options).drain(o)],
  ["subscribe", (o) => subscribe(silent, "c", o).next()],
  ["connect", (o) => connect(url, o)],
  ["watch", (o) => watch(silent, "t", o)],
  ["watchSql", (o) => watchSql(silent, "t", o)],
  ["unwatchSql", (o) => unwatchSql(silent, "t", o)],
  ["unwatch", (o) => unwatch(silent, "t", o)],
  ["rewatch", (o) => rewatch(silent, "t", o)],
  ["watched", (o) => watched("public.t", o)],
  ["snapshot", (o) => watch(silent, "t", { snapshot: o })],
  ["setContext", (o) => setContext(silent, {}, o)],
  ["replay", (o) => replay(silent, "c", o)],
  ["status", (o) => status(silent, o)],
  ["consumers", (o) => consumers(silent, o)],
  ["consumerDetails", (o) => consumerDetails(silent, "c", o)],
  ["retry", (o) => retry(silent, "c", o)],
  ["discard", (o) => discard(silent, "c", o)],
  ["cleanup", (o) => cleanup(silent, o)],
  ["deadLetters", (o) => deadLetters(silent, o)],
  ["startEmbedded", (o) => startEmbedded(o)],
];

/** Functions of a database. */
const ofDb: ((db: Any) => unknown)[] = [
  (db) => notify(db, "c"),
  (db) => notifyMany(db, [{ channel: "c" }]),
  (db) => cancelDelayed(db, 1),
  (db) => new Consumer(db, options),
  (db) => subscribe(db, "c").next(),
  (db) => watch(db, "t"),
  (db) => watchSql(db, "t"),
  (db) => unwatch(db, "t"),
  (db) => unwatchSql(db, "t"),
  (db) => rewatch(db, "t"),
  (db) => watches(db),
  (db) => setContext(db, {}),
  (db) => migrate(db),
  (db) => installedVersion(db),
  (db) => requireSchema(db),
  (db) => uninstall(db),
  (db) => seek(db, "c", "now"),
  (db) => replay(db, "c", { from: 1 }),
  (db) => pause(db, "c"),
  (db) => resume(db, "c"),
  (db) => removeConsumer(db, "c"),
  (db) => setPartitions(db, "c", 2),
  (db) => consumers(db),
  (db) => consumerDetails(db, "c"),
  (db) => status(db),
  (db) => cleanup(db, { olderThan: 1 }),
  (db) => deadLetters(db),
  (db) => retry(db, "c", { all: true }),
  (db) => discard(db, "c", { all: true }),
];

async function refusal(what: string, call: () => unknown): Promise<HarkError> {
  const error = await (async () => await call())().then(
    () => assert.fail(`${what}: nothing was refused`),
    (error: unknown) => error,
  );
  assert(error instanceof HarkError, `${what}: ${error}`);
  assert.match(error.code, /^BAD_/, `${what}: ${error.message}`);
  assert(error.remedy, `${what} has no remedy: ${error.message}`);
  return error;
}

Deno.test("a wrong value is shown as it is, by its name, with a remedy", async () => {
  for (const [name, call, otherwise = []] of calls) {
    for (const [value, shown] of values) {
      if (otherwise.some((one) => shown.includes(one))) continue;
      const { message } = await refusal(`${name} ${shown}`, () => call(value));
      assert(message.includes(name.replace(/^a |s$/g, "")), `${name}: ${message}`);
      // An object may be named for the option in it that is unknown, and text for its length.
      if (shown !== '{"a":NaN}' || !message.includes('no option "a"')) {
        assert(message.includes(shown), `${name}: ${message} does not show ${shown}`);
      }
      assert(!/\[object|null is null/.test(message), message);
      assert(message.length < 350, message);
    }
  }
});

Deno.test("every function refuses options that it does not know, and what are none", async () => {
  for (const [name, call] of optioned) {
    const { message } = await refusal(name, () => call({ nonsense: 1 }));
    assert.match(message, new RegExp(`^(notifications\\[0\\]: )?${name} has no option "nonsense"`));
    if (name === "a notification") continue;
    for (const value of [Promise.resolve({}), new Map(), new Date()]) {
      const { message } = await refusal(name, () => call(value));
      assert.match(
        message,
        new RegExp(`^${name} was given (a promise|a Map|\\d{4}-).*not an object of`),
      );
    }
  }
  const { message } = await refusal(
    "run",
    () => new Consumer(silent, options).run({ sginal: 1 } as Any),
  );
  assert.match(message, /^run has no option "sginal"\. Did you mean signal\?/);
});

Deno.test("a database that is not awaited is told so, and a URL is never shown", async () => {
  const cases: [db: unknown, message: RegExp][] = [
    [Promise.resolve(silent), /^db is a promise\. Await it/],
    ["postgres://me:s3cret@host/db", /^db is text\. Give what connect\(url\) returns/],
    [undefined, /^db is undefined\. Give a Database/],
    [null, /^db is null\. Give a Database/],
    [{}, /^db is \{\}\. Give a Database/],
    [URL, /^db is the class URL\. Give a Database/],
  ];
  for (const call of ofDb) {
    for (const [db, message] of cases) {
      const error = await refusal(`${call}`, () => call(db));
      assert.match(error.message, message, `${call}`);
    }
  }
});

Deno.test("connect says what it was given instead of a URL, without its content", async () => {
  class Pool {
    readonly password = "s3cret";
    query() {}
  }
  const cases: [given: unknown, message: RegExp][] = [
    [new Pool(), /^the database URL is a Pool\. It needs no connect\(\)/],
    [Promise.resolve("postgres://x"), /^the database URL is a promise\. Await it/],
    [{ url: "postgres://me:s3cret@h/d" }, /^the database URL is an object\. Give its url/],
    [5432, /^the database URL is a number\. Give postgres:/],
    [{ password: "s3cret" }, /^the database URL is an object\. Give postgres:/],
  ];
  for (const [given, message] of cases) {
    const error = await refusal("connect", () => connect(given as string));
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /s3cret/);
  }
});

Deno.test("a dead letter that is given an error has its message", () => {
  const error: unknown = new TypeError("no such tax");
  assert.equal(new DeadLetter(error as string).message, "TypeError: no such tax");
  assert.equal(new DeadLetter(Symbol("s") as Any).message, "Symbol(s)");
});

Deno.test("any value can be shown", () => {
  const throws = () => {
    throw new Error("no");
  };
  const cases: [value: unknown, shown: string][] = [
    [-0, "-0"],
    [Infinity, "Infinity"],
    [/x/g, "/x/g"],
    [new Uint8Array(3), "a Uint8Array of 3 bytes"],
    [{ a: [1, { b: undefined }] }, '{"a":[1,{"b":undefined}]}'],
    [Object.create(null), "{}"],
    [{
      get a() {
        return throws();
      },
    }, "an object of the kind Object"],
    [new Proxy({}, { getPrototypeOf: throws }), "an object of the kind Object"],
    [() => {}, "a function"],
    [new (class Order {})(), "an Order"],
    [[[[[1]]]], "[[[[...]]]]"],
  ];
  for (const [value, shown] of cases) assert.equal(show(value), shown);
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  assert(show(cycle).length <= 80);
});

test("a role without a right is told what it may not do, and which grant gives it", async (c) => {
  const db = c.use(await connect(c.url));
  await c.sql("create role publisher_only_" + c.database.slice(-12));
  const role = "publisher_only_" + c.database.slice(-12);
  try {
    await c.sql(`select hark.grant_publish('${role}')`);
    const client = await c.client();
    await client.query(`set role ${role}`);
    await notify(client, "c", 1);
    await assert.rejects(new Consumer(client, options).drain(), {
      code: "NO_PERMISSION",
      message:
        /^this role may not .*consume.*: permission denied.*hark\.grant_consume\('role'\) to run consumers/,
    });
    await assert.rejects(seek(client, "c", "now"), {
      code: "NO_PERMISSION",
      message: /^this role may not .*hark\.grant_operate\('role'\)/,
    });
    await client.query("reset role");
  } finally {
    await c.sql(`drop owned by ${role}`);
    await c.sql(`drop role ${role}`);
    await db.close();
  }
});
