/** What readers ask the server when they are woken, and what is stored of it. */

import assert from "node:assert/strict";
import { connect, type ConnectOptions } from "../../mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { CountingProxy } from "../../bench/workers/counting.ts";
import { NEVER_POLL, numbers, Reading, Running } from "../faults/_support/running.ts";

test("a consumer that is woken asks the server once before its handler runs", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  let before = 0;
  const asked: number[] = [];
  const running = context.use(
    new Running(db, {
      pollInterval: NEVER_POLL,
      handle: () => void asked.push(counting.traffic.statements - before),
    }),
  );
  await running.consumer.ready;
  // A heartbeat, or what the consumer does while it falls asleep, may come between.
  await until(async () => {
    before = counting.traffic.statements;
    const count = asked.length;
    await context.sql("select hark.notify('c')");
    await running.atLeast(count + 1);
    return asked.at(-1) === 1;
  }, { what: "one statement from a notification to its handler" });
});

test("twenty consumers that are woken together share their looks", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  let [before, handled, asked] = [0, 0, Infinity];
  const consumers = numbers(0, 19).map((n) =>
    context.use(
      new Running(db, {
        id: `c${n}`,
        pollInterval: NEVER_POLL,
        handle: () => {
          if (++handled % 20 === 0) asked = counting.traffic.statements - before;
        },
      }),
    )
  );
  for (const { consumer } of consumers) await consumer.ready;
  // A page for each, and looks in common. Heartbeats and acknowledgements may come between. If each
  // looked by itself, it would be forty.
  await until(async () => {
    before = counting.traffic.statements;
    const awaited = handled + 20;
    await context.sql("select hark.notify('c')");
    await until(() => handled === awaited, { what: "all to handle it" });
    return asked <= 30;
  }, { what: "twenty pages and few looks" });
});

test("a consumer that looks a hundred times a second has about one mark a second stored", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await running.consumer.ready;
  const marks = async () =>
    (await context.sql("select count(*)::int as count from hark.marks"))[0]!.count;
  const [before, began] = [await marks(), performance.now()];
  let published = 0;
  // On a busy machine a publish may take long: it goes on until it has looked often.
  while (performance.now() - began < 2000 || published < 100) {
    await context.sql("select hark.notify('c')");
    await running.atLeast(++published);
  }
  const seconds = (performance.now() - began) / 1000;
  const stored = await marks() - before;
  assert.ok(published > 20 * seconds || stored < published, "it has looked often");
  assert.ok(stored >= 1 && stored <= 2 * seconds + 3, `${stored} marks in ${seconds} s`);
});

test("a reader of all channels looks at most every 10 ms, also while it always finds something", async (context) => {
  const { db, counting } = await counted(context);
  const { inbox } = context.use(new Reading(db, null));
  await begun(context, inbox);
  const { asked, ms } = await busy(context, counting, () => "c");
  // A look is two statements. Heartbeats and marks may come between.
  assert.ok(asked <= 2 * ms / 10 + 30, `${asked} statements in ${ms} ms`);
});

test("a reader of all channels looks at most every 10 ms, also while others are woken all the time", async (context) => {
  const { db, counting } = await counted(context);
  const elsewhere = context.use(await connect(context.url));
  const channels = numbers(1, 40).map((n) => `c${n}`);
  for (const channel of channels) context.use(new Reading(elsewhere, channel));
  const { inbox } = context.use(new Reading(db, null));
  await begun(context, inbox);
  await until(async () => {
    const [row] = await context.sql("select count(*)::int as asleep from hark.sleepers");
    return row.asleep === channels.length;
  }, { what: "all others to sleep" });
  // Seldom enough on each channel that its reader does not stay awake.
  const { asked, ms } = await busy(context, counting, (n) => channels[n % channels.length]!);
  assert.ok(asked <= 2 * ms / 10 + 30, `${asked} statements in ${ms} ms`);
});

for (const kind of ["consumer", "subscription"]) {
  test(`a ${kind} without LISTEN looks at most every 10 ms while it always finds something`, async (context) => {
    const { db, counting } = await counted(context, { listen: false });
    const { inbox } = kind === "consumer"
      ? context.use(new Running(db, {}))
      : context.use(new Reading(db, "c"));
    await begun(context, inbox);
    const { asked, ms } = await busy(context, counting, () => "c");
    const each = kind === "consumer" ? 1 : 2;
    assert.ok(asked <= each * ms / 10 + 30, `${asked} statements in ${ms} ms`);
  });
}

test("subscriptions that share a reader look together, as seldom as one of them", async (context) => {
  const { db, counting } = await counted(context);
  const all = numbers(1, 6).map(() => context.use(new Reading(db, "c")));
  for (const { inbox } of all) await begun(context, inbox);
  await busy(context, counting, () => "c"); // from then on they stay awake
  const { asked, ms } = await busy(context, counting, () => "c");
  assert.ok(asked <= 2 * ms / 10 + 30, `${asked} statements in ${ms} ms`);
});

/** A database whose statements are counted. */
async function counted(context: TestContext, options: ConnectOptions = {}) {
  const counting = context.use(new CountingProxy(context.url));
  return { counting, db: context.use(await connect(counting.url, options)) };
}

/** Waits until a reader has read something. */
async function begun({ sql }: TestContext, inbox: { items: readonly unknown[] }): Promise<void> {
  await until(async () => {
    await sql("select hark.notify('c')");
    return inbox.items.length > 0;
  }, { what: "the first notification to arrive" });
}

/** Publishes for a second. Returns how many statements were sent in how many milliseconds. */
async function busy(
  { client }: TestContext,
  counting: CountingProxy,
  channel: (n: number) => string,
): Promise<{ asked: number; ms: number }> {
  const [before, began] = [counting.traffic.statements, performance.now()];
  const publisher = await client();
  for (let n = 0; performance.now() - began < 1000; n++) {
    await publisher.query("select hark.notify($1)", [channel(n)]);
  }
  return { asked: counting.traffic.statements - before, ms: performance.now() - began };
}
