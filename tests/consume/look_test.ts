/** What readers ask the server when they are woken, and what is stored of it. */

import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
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
  while (performance.now() - began < 2000) {
    await context.sql("select hark.notify('c')");
    await running.atLeast(++published);
  }
  const seconds = (performance.now() - began) / 1000;
  const stored = await marks() - before;
  assert.ok(published > 20 * seconds || stored < published, "it has looked often");
  assert.ok(stored >= 1 && stored <= 2 * seconds + 3, `${stored} marks in ${seconds} s`);
});

test("a reader of all channels looks at most every 10 ms, also while it always finds something", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  await context.sql("select hark.notify('c')");
  const { inbox } = context.use(new Reading(db, null, { from: "beginning" }));
  await inbox.atLeast(1);
  const [before, began] = [counting.traffic.statements, performance.now()];
  let published = 1;
  await Promise.all(
    numbers(1, 4).map(async () => {
      const client = await context.client();
      while (performance.now() - began < 1000) {
        await client.query("select hark.notify('c')");
        published++;
      }
    }),
  );
  await inbox.atLeast(published);
  const looks = (performance.now() - began) / 10;
  const asked = counting.traffic.statements - before;
  // A look is two statements. Heartbeats and marks may come between.
  assert.ok(asked <= 2 * looks + 30, `${asked} statements for ${published} notifications`);
});
