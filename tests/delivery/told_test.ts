import assert from "node:assert/strict";
import { connect, Consumer, DeadLetter, deadLetters, notify, status } from "../../mod.ts";
import { said, sentence } from "../faults/_support/logs.ts";
import { test } from "../harness/mod.ts";

test("a handler that is abandoned after twice its timeout is told, with its notification", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "orders");
  const since = Date.now();
  const late = Promise.withResolvers<void>();
  const consumer = new Consumer(db, {
    id: "slow",
    channels: "orders",
    timeout: 100,
    maxAttempts: 1,
    handle: () => late.promise,
  });
  assert.equal(await consumer.drain(), 0);
  const record = await said("warning", /^slow: the handler of notification 1 still runs /, since);
  assert.match(sentence(record), /still runs 200 ms after it began.* no longer waited for/);
  late.resolve();
});

test("a failure is listed with the class of its error, unless that says nothing", async (context) => {
  const db = context.use(await connect(context.url));
  class OutOfPaper extends Error {
    override name = "OutOfPaper";
  }
  const errors: Record<string, () => unknown> = {
    type: () => (undefined as unknown as { name: string }).name,
    own: () => {
      throw new OutOfPaper("tray 2");
    },
    plain: () => {
      throw new Error("no such tax");
    },
    dead: () => {
      throw new DeadLetter("not ours");
    },
    database: () => db.query("select 1/0"),
  };
  for (const kind of Object.keys(errors)) await notify(db, "orders", kind);
  const consumer = (maxAttempts: number) =>
    new Consumer<string>(db, {
      id: "fails",
      channels: "orders",
      maxAttempts,
      retry: { initial: "1h" },
      handle: ({ payload }) => errors[payload]!(),
    });
  await consumer(2).drain();
  const [found] = (await status(db)).consumers;
  assert.match(found!.failing!.error!, /^TypeError: Cannot read properties of undefined/);
  await context.sql("update hark.waiting set due_at = now()");
  await consumer(2).drain();
  const listed = (await deadLetters(db)).map(({ payload, error }) => [payload, error]);
  assert.deepEqual(Object.fromEntries(listed), {
    type: "TypeError: Cannot read properties of undefined (reading 'name')",
    own: "OutOfPaper: tray 2",
    plain: "no such tax",
    dead: "not ours",
    database: "division by zero",
  });
});
