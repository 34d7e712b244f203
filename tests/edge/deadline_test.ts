/** A drain returns at its deadline, whatever statement is under way. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  type Database,
  type Queryable,
} from "../../mod.ts";
import { drain } from "../../src/edge/mod.ts";
import { cutProxy, patient, test, type TestContext, within } from "../harness/mod.ts";

/** Before a connection times out, which is after 5 s. */
const deadline = Math.min(patient(500), 3000);
const port = (url: string) => Number(new URL(url).port || 5432);

const consumer = (db: Queryable, options: ConsumerOptions = {}) =>
  new Consumer(db, { id: "c", channels: "c", lease: 2000, handle() {}, ...options });

/** Drains, which has to end long before a statement would time out, after 8 s; gives the result or the error. */
async function ends(one: Consumer, what: string) {
  const begun = performance.now();
  const ended = await within(
    drain(one, { deadline }).catch((error) => error as Error & { code: string }),
    { deadline: 4000, what: `a drain to return, ${what}` },
  );
  const late = Math.round(performance.now() - begun - deadline);
  console.log(`${what}: ${late} ms after its deadline of ${deadline} ms`);
  return ended;
}

/** Holds a table until the end of the test, or until it is let go. */
async function locked({ client }: TestContext, table: string) {
  const holder = await client();
  await holder.query("begin");
  await holder.query(`lock table ${table} in access exclusive mode`);
  return { letGo: () => holder.query("rollback") };
}

/**
 * Tries with one consumer after another, each with one notification to handle, until an attempt gives something. A
 * server that stands still lets no handler begin before the deadline.
 */
async function untilCalled<T>(
  { sql }: TestContext,
  db: Database,
  attempt: (id: string) => Promise<T | undefined>,
): Promise<T> {
  for (let n = 1; n <= 5; n++) {
    const id = `c${n}`;
    await drain(consumer(db, { id }));
    await sql("select hark.notify('c', '1')");
    const result = await attempt(id);
    if (result !== undefined) return result;
  }
  return assert.fail("no handler was called in time");
}

const nothing = { handled: 0, failed: 0, dead: 0, left: 0, more: true, reason: "deadline" };

async function ready(context: TestContext, url = context.url): Promise<Database> {
  const db = context.use(await connect(url));
  await drain(consumer(db));
  await context.sql("select hark.notify('c', '1')");
  return db;
}

for (const table of ["hark.consumers", "hark.partitions", "hark.log", "hark.workers"]) {
  test(`a drain that waits for a lock of ${table} returns at its deadline`, async (context) => {
    const db = await ready(context);
    const { letGo } = await locked(context, table);
    assert.deepEqual(await ends(consumer(db), `with ${table} locked`), nothing);
    await letGo();
    const { handled } = await within(drain(consumer(db)), { deadline: 30_000 });
    assert.equal(handled, 1, "nothing is lost");
  });
}

test("a drain that cannot store what it has handled says so at its deadline", async (context) => {
  const db = context.use(await connect(context.url));
  const holder = await context.client();
  const id = await untilCalled(context, db, async (id) => {
    await holder.query("begin");
    const begun = performance.now();
    let handled = Infinity;
    const handle = async () => {
      await holder.query("lock table hark.partitions in access exclusive mode");
      handled = performance.now() - begun;
    };
    const error = await ends(consumer(db, { id, handle }), "that cannot store its progress");
    await holder.query("rollback"); // behind a lock that came too late
    if (!(error instanceof Error) && handled > deadline / 2) return undefined;
    assert(error instanceof Error);
    assert.deepEqual([error.code, /1 notifications were handled/.test(error.message)], [
      "UNREACHABLE",
      true,
    ], error.message);
    return id;
  });
  const again: unknown[] = [];
  await within(drain(consumer(db, { id, handle: (n) => void again.push(n.payload) })), {
    deadline: 30_000,
  });
  // What was under way may still have been stored.
  assert(again.length <= 1, String(again));
});

test("a drain from a server that falls silent returns at its deadline", async (context) => {
  const line = context.use(cutProxy(port(context.url)));
  const db = await ready(context, line.through(context.url));
  line.silence();
  assert.deepEqual(await ends(consumer(db), "from a silent server"), nothing);
  // Also closing takes no longer than a second.
  await within(db.close(), { deadline: 3000, what: "the database to close" });
  line.resume();
});

test("a drain whose server falls silent while a handler runs returns at its deadline", async (context) => {
  const line = context.use(cutProxy(port(context.url)));
  const db = context.use(await connect(line.through(context.url)));
  let called = false;
  const handle = (_: unknown, { signal }: { signal: AbortSignal }) => {
    called = true;
    line.silence();
    return new Promise<void>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason))
    );
  };
  const result = await untilCalled(context, db, async (id) => {
    const ended = await ends(consumer(db, { id, handle }), "silent in the middle");
    return called ? ended : undefined;
  });
  assert.deepEqual(result, { ...nothing, left: 1 });
  line.resume();
});

test("a drain on a driver of the caller's own returns at its deadline, too", async (context) => {
  await ready(context);
  const client = await context.client();
  const { letGo } = await locked(context, "hark.partitions");
  assert.deepEqual(await ends(consumer(client), "on a pg.Client"), nothing);
  await letGo();
});

test("a drain that was cut off is waited for by the next one of the same object", async (context) => {
  const db = await ready(context);
  const { letGo } = await locked(context, "hark.partitions");
  const one = consumer(db);
  assert.deepEqual(await ends(one, "before another drain"), nothing);
  const next = drain(one);
  const isReady = one.ready;
  await letGo();
  const { handled } = await within(next, { deadline: 30_000 });
  assert.equal(handled, 1);
  await isReady;
});
