/** The queue of the shape of Deno KV's. The first tests are the examples of Deno's documentation. */

import assert from "node:assert/strict";
import { connect, deadLetters, notify } from "../../mod.ts";
import { openQueue, type Queue } from "../../src/queue/mod.ts";
import { Inbox, test, type TestContext, until, within } from "../harness/mod.ts";

/** In the place of Deno.openKv(). */
const openKv = async ({ url, use }: TestContext): Promise<Queue> => use(await openQueue(url));

interface Message {
  forUser: string;
  body: string;
}

const message: Message = { forUser: "alovelace", body: "You've got mail!" };

test("Deno's example of queues runs on it", async (context) => {
  const kv = await openKv(context);
  await kv.enqueue(message);

  const delay = 1000 * 60 * 60 * 24 * 3;
  await kv.enqueue(message, { delay });

  const backupKey = ["failed_notifications", "alovelace", Date.now()];
  await kv.enqueue({ ...message, body: "fails" }, {
    keysIfUndelivered: [backupKey],
    backoffSchedule: [], // the example waits for a disaster, and this test does not
  });

  const said = new Inbox<string>();
  kv.listenQueue((msg: Message) => {
    if (msg.body === "fails") throw new Error("disaster strikes");
    said.push(`Dear ${msg.forUser}: ${msg.body}`);
  });
  assert.deepEqual(await said.atLeast(1), ["Dear alovelace: You've got mail!"]);

  const r = await until(async () => {
    const found = await kv.get<Message>(backupKey);
    return found.value === null ? undefined : found;
  });
  assert.deepEqual([r!.key, r!.value?.forUser], [backupKey, "alovelace"]);
  const [{ count }] = await context.sql("select count(*)::integer from hark.delayed");
  assert.equal(count, 1, "the one in three days");
});

test("the lines of Deno's reference run on it, and have its types", async (context) => {
  const db = await openKv(context);
  // What is checked here is checked by the compiler.
  const queue: Pick<Deno.Kv, "enqueue" | "listenQueue"> = db;
  const received = new Inbox<unknown>();
  queue.listenQueue(async (msg: unknown) => {
    await Promise.resolve();
    received.push(msg);
  });
  await queue.enqueue("bar");
  await queue.enqueue("bar", { delay: 60_000 });
  const { ok, versionstamp } = await queue.enqueue("foo", {
    keysIfUndelivered: [["foo", "bar"]],
    backoffSchedule: [1000, 5000, 10_000],
  });
  assert.equal(ok, true);
  assert.match(versionstamp, /^[0-9a-f]{20}$/);
  assert.deepEqual((await received.atLeast(2)).toSorted(), ["bar", "foo"]);
  assert.deepEqual(await db.get(["foo", "bar"]), {
    key: ["foo", "bar"],
    value: null,
    versionstamp: null,
  });
});

test("a delay is kept, and values come from before the first listener", async (context) => {
  const kv = await openKv(context);
  const sent = Date.now();
  await kv.enqueue("later", { delay: 400 });
  await kv.enqueue("at once");
  const received = new Inbox<[string, number]>();
  kv.listenQueue((value) => received.push([value, Date.now() - sent]));
  const [[first], [second, after]] = await received.atLeast(2) as [
    [string, number],
    [string, number],
  ];
  assert.deepEqual([first, second], ["at once", "later"]);
  assert(after >= 395, `${after} ms`);
});

test("each value has its own schedule of attempts", async (context) => {
  const kv = await openKv(context);
  const attempts = new Map<string, number[]>();
  kv.listenQueue((value: string) => {
    attempts.set(value, [...attempts.get(value) ?? [], performance.now()]);
    if (value !== "second time" || attempts.get(value)!.length === 1) {
      throw new Error(`no ${value}`);
    }
  });
  await kv.enqueue("never", { backoffSchedule: [] });
  await kv.enqueue("three times", { backoffSchedule: [100, 200] });
  await kv.enqueue("second time", { backoffSchedule: [50, 60_000] });
  const dead = await until(async () => {
    const letters = await deadLetters(context.admin, { consumer: "deno-queue" });
    return letters.length === 2 ? letters : undefined;
  });
  assert.deepEqual(dead!.map(({ payload, attempts }) => [payload, attempts]), [
    ["never", 1],
    ["three times", 3],
  ]);
  const [first, second, third] = attempts.get("three times")!;
  assert(second! - first! >= 95 && third! - second! >= 195, "the waits are kept");
  await until(() => attempts.get("second time")?.length === 2);
});

test("what is not delivered is found by each of its keys, the newest first, until it is deleted", async (context) => {
  const kv = await openKv(context);
  kv.listenQueue(() => {
    throw new Error("no");
  });
  const bytes = ["user", new Uint8Array([1, 2]), 7n, true, 0.5] as const;
  const keysIfUndelivered = [["failed"], bytes];
  await kv.enqueue("old", { backoffSchedule: [], keysIfUndelivered });
  await until(async () => (await kv.get(["failed"])).value === "old");
  const { versionstamp } = await kv.enqueue("new", { backoffSchedule: [], keysIfUndelivered });
  await until(async () => (await kv.get(bytes)).value === "new");
  assert.deepEqual(await kv.get(["failed"]), { key: ["failed"], value: "new", versionstamp });
  assert.equal((await kv.get(["failed", 7])).value, null);
  assert.equal((await kv.get(["user", new Uint8Array([1, 2]), 7, true, 0.5])).value, null);
  await kv.delete(["failed"]);
  assert.equal((await kv.get(bytes)).value, null);
});

test("before the first listener nothing is found, and nothing to delete", async (context) => {
  const kv = await openKv(context);
  await kv.enqueue("early", { keysIfUndelivered: [["failed"]] });
  assert.equal((await kv.get(["failed"])).value, null);
  await kv.delete(["failed"]);
});

test("what a transaction enqueues is delivered if it commits", async (context) => {
  const db = context.use(await connect(context.url));
  const kv = context.use(await openQueue(db, { name: "mails" }));
  const received = new Inbox<unknown>();
  const listening = kv.listenQueue(received.push);
  await assert.rejects(
    db.transaction(async (tx) => {
      await kv.within(tx).enqueue("rolled back");
      throw new Error("changed my mind");
    }),
  );
  await db.transaction(async (tx) => {
    await kv.within(tx).enqueue("committed", { backoffSchedule: [1] });
  });
  assert.deepEqual(await received.atLeast(1), ["committed"]);
  // By SQL, too: without options.
  await notify(db, "mails", "by notify");
  assert.deepEqual((await received.atLeast(2)).at(-1), "by notify");
  await kv.close();
  await within(listening, { what: "listenQueue() to end" });
  await db.query("select 1"); // it was not the queue's to close
});

test("several listeners share the values, and each value comes once", async (context) => {
  const kvs = await Promise.all([openKv(context), openKv(context)]);
  const received = new Inbox<number>();
  for (const kv of kvs) kv.listenQueue(received.push);
  const values = Array.from({ length: 60 }, (_, n) => n);
  await Promise.all(values.map((n) => kvs[n % 2]!.enqueue(n)));
  assert.deepEqual((await received.atLeast(60)).toSorted((a, b) => a - b), values);
});

test("wrong values and options are refused", async (context) => {
  const kv = await openKv(context);
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const refused = async (options: any, message: RegExp) =>
    await assert.rejects(kv.enqueue("x", options), { code: "BAD_OPTION", message });
  await refused({ delay: -1 }, /^delay is -1\. Give milliseconds/);
  await refused({ delay: "1s" }, /^delay is "1s"/);
  await refused({ backoffSchedule: [10, -1] }, /^backoffSchedule\[1\] is -1/);
  await refused({ backoffSchedule: 5 }, /^backoffSchedule is 5/);
  await refused({ keysIfUndelivered: ["a"] }, /^the key is "a"\. Give an array/);
  await refused({ keysIfUndelivered: [[{}]] }, /^a part of the key is \{\}/);
  await refused({ keysIfUndelivred: [] }, /Did you mean keysIfUndelivered\?/);
  await assert.rejects(kv.enqueue(new Map()), { code: "BAD_PAYLOAD" });
  await assert.rejects(kv.enqueue(undefined), { code: "BAD_PAYLOAD" });
  await assert.rejects(kv.listenQueue("x" as never), { code: "BAD_OPTION" });
  await assert.rejects(openQueue(context.url, { name: "" }), { code: "BAD_CHANNEL" });
  await assert.rejects(openQueue({} as never), { code: "BAD_OPTION" });
  assert.deepEqual(await context.sql("select * from hark.log"), []);
});
