import assert from "node:assert/strict";
import { connect, type Database, notify, subscribe } from "../../mod.ts";
import { NEVER_POLL, numbers, publish, Reading } from "../faults/_support/running.ts";
import { deferred, test, type TestContext, until, within } from "../harness/mod.ts";

/** Reads until `count` have come, then breaks out of the loop. */
async function take(
  db: Database,
  count: number,
  ...[channels, options]: [Parameters<typeof subscribe>[1]?, Parameters<typeof subscribe>[2]?]
): Promise<unknown[]> {
  const seen: unknown[] = [];
  const reading = (async () => {
    if (count === 0) return;
    for await (const n of subscribe(db, channels === undefined ? "c" : channels, options)) {
      seen.push(n.payload);
      if (seen.length === count) break;
    }
  })();
  await within(reading, { deadline: 15_000, what: `${count} notifications; have ${seen}` });
  return seen;
}

/** One that begins now, once it has begun: what commits from then on is delivered. */
async function begun(
  context: TestContext,
  db: Database,
  channels: string | null,
): Promise<Reading> {
  const ready = deferred("the subscription to be ready");
  const options = { pollInterval: NEVER_POLL, onReady: () => ready.resolve() };
  const reading = context.use(new Reading(db, channels, options));
  await ready.wait();
  return reading;
}

const sessions = (context: TestContext) =>
  context.sql(
    `select pid, query from pg_stat_activity where application_name = $1 and query !~* '^listen'
      and query ~ 'as mark$|hark\\.(page|look|deliver_due)'`,
    [context.appName],
  );

test("subscribe() begins now, unless told where", async (context) => {
  const db = context.use(await connect(context.url));
  const ids = await publish(context, 1, 5);
  await context.sql("select hark.cut()");
  // A Date has whole milliseconds: without one more it may lie before the mark.
  const [{ time }] = await context.sql("select clock_timestamp() + interval '1 ms' as time");
  await publish(context, 6, 8);
  assert.deepEqual(await take(db, 8, "c", { from: "beginning" }), numbers(1, 8));
  assert.deepEqual(await take(db, 6, "c", { from: { id: ids[2]! } }), numbers(3, 8));
  assert.deepEqual(await take(db, 3, "c", { from: { time } }), numbers(6, 8));
  const ready = [deferred("one to be ready"), deferred("the other to be ready")] as const;
  const options = (n: 0 | 1) => ({ pollInterval: NEVER_POLL, onReady: () => ready[n].resolve() });
  const reading = context.use(new Reading(db, "c", options(0)));
  const now = context.use(new Reading(db, "c", { from: "now", ...options(1) }));
  await Promise.all(ready.map((one) => one.wait()));
  await publish(context, 9, 11);
  await reading.inbox.atLeast(3);
  await now.inbox.atLeast(3);
  assert.deepEqual(reading.payloads, [9, 10, 11]);
  assert.deepEqual(now.payloads, [9, 10, 11]);
  assert(reading.inbox.items.every((n) => !n.isReplay && n.attempt === 1));
});

test('"now" includes what a transaction that runs already commits later', async (context) => {
  const db = context.use(await connect(context.url));
  const client = await context.client();
  await client.query("begin; select hark.notify('c', '1')");
  await publish(context, 2, 2);
  const reading = await begun(context, db, "c");
  await client.query("commit");
  await reading.inbox.atLeast(1);
  assert.deepEqual(reading.payloads, [1]);
});

test("null reads every channel, several names read those", async (context) => {
  const db = context.use(await connect(context.url));
  for (const n of numbers(1, 9)) await notify(db, ["a", "b", "Ünïque 🐘"][n % 3]!, n);
  assert.deepEqual(await take(db, 9, null, { from: "beginning" }), numbers(1, 9));
  assert.deepEqual(await take(db, 6, ["a", "Ünïque 🐘"], { from: "beginning" }), [
    2,
    3,
    5,
    6,
    8,
    9,
  ]);
  const reading = await begun(context, db, null);
  await notify(db, "never seen before", "x");
  await reading.inbox.atLeast(1);
});

test("breaking out of the loop leaves no session", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 10);
  assert.deepEqual(await take(db, 3, "c", { from: "beginning" }), [1, 2, 3]);
  await until(async () => (await sessions(context)).length === 0);
});

test("an error in the loop's body ends the subscription and comes out as it is", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2);
  const own = new Error("mine");
  await assert.rejects(async () => {
    for await (const _ of subscribe(db, "c", { from: "beginning" })) throw own;
  }, (error) => error === own);
  await until(async () => (await sessions(context)).length === 0);
});

test("an abort ends the loop: while it waits, in the middle of a page, before it began", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 10);
  const all = async (abort: AbortController, at: number, seen: unknown[] = []) => {
    const options = { from: "beginning", signal: abort.signal, pollInterval: NEVER_POLL } as const;
    for await (const n of subscribe(db, "c", options)) {
      seen.push(n.payload);
      if (seen.length === at) abort.abort();
    }
    return seen;
  };
  assert.deepEqual(await all(new AbortController(), 4), [1, 2, 3, 4]);
  const aborted = new AbortController();
  aborted.abort();
  assert.deepEqual(await all(aborted, 4), []);
  const waiting = new AbortController();
  const seen: unknown[] = [];
  const reading = all(waiting, 99, seen);
  await until(() => seen.length === 10);
  waiting.abort();
  assert.deepEqual((await within(reading)).length, 10);
  await until(async () => (await sessions(context)).length === 0);
});

test("db.close() ends a subscription that waits", async (context) => {
  const db = await connect(context.url);
  const reading = await begun(context, db, "c");
  await within(db.close(), { deadline: 5000 });
  await reading[Symbol.asyncDispose]();
});

test("100 subscriptions opened and left leave nothing behind", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  for (let round = 0; round < 10; round++) {
    await Promise.all(numbers(1, 10).map(() => take(db, 1, "c", { from: "beginning" })));
  }
  await until(async () => (await sessions(context)).length === 0);
});

test("wrong arguments are refused at the first step", async (context) => {
  const db = context.use(await connect(context.url));
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const first = (channels: any, options?: any) => subscribe(db, channels, options).next();
  await assert.rejects(first(""), { code: "BAD_CHANNEL" });
  await assert.rejects(first([]), { code: "BAD_OPTION" });
  await assert.rejects(first(undefined), { code: "BAD_OPTION" });
  await assert.rejects(first("c", { form: "now" }), { message: /no option "form"/ });
  await assert.rejects(first("c", { from: "end" }), { code: "BAD_OPTION" });
  await assert.rejects(first("c", { pageSize: 0 }), { message: /pageSize is 0/ });
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  await assert.rejects(subscribe({} as any, "c").next(), { message: /^db is/ });
});

test("a pg.Client can be subscribed on: it polls there", async (context) => {
  const client = await context.client();
  const reading = context.use(new Reading(client, "c", { from: "beginning", pollInterval: 20 }));
  await publish(context, 1, 3);
  await reading.inbox.atLeast(3);
});
