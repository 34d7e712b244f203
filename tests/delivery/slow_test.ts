/** A handler that takes long, or is held back: what others have handled beside it is stored too. */

import assert from "node:assert/strict";
import { connect, type ConsumerOptions, notifyMany } from "../../mod.ts";
import { numbers, Running } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";
import { startWorker } from "./_support/fleet.ts";

const others = numbers(3, 200);

const cases: readonly [what: string, left: readonly number[], options: ConsumerOptions][] = [
  ["one of its handlers hangs", [1], { concurrency: 2 }],
  ["keys are handled in order, and the handler of one hangs", [1, 2], { concurrency: 2 }],
  ["a limit holds one back", [2], {
    concurrency: 2,
    limits: { perKey: { rate: { count: 1, per: "1h" } } },
  }],
];

for (const [what, left, options] of cases) {
  test(`a worker is killed while ${what}: of what it had handled before, nothing is repeated`, async (context) => {
    const keyed = left.includes(2);
    await notifyMany(
      context.admin,
      [1, 2, ...others].map((n) => ({
        channel: "c",
        payload: n,
        ...(keyed ? { key: n <= 2 ? "both" : `${n}` } : {}),
      })),
    );
    const ends = left.includes(1) ? { trap: { payload: 1, do: "hang" } as const } : {};
    await using first = startWorker(context.url, "first", { options, ...ends, say: true });
    await first.line(/^handled 200 /);
    await until(async () => {
      const [{ known }] = await context.sql(
        "select coalesce(sum(handled), 0)::int as known from hark.partitions",
      );
      const [{ done }] = await context.sql("select count(*)::int as done from hark.done");
      return known === 200 - left.length && done >= others.length;
    }, { what: "all that was handled to be stored" });
    first.kill("SIGKILL");
    await first.ended();

    const db = context.use(await connect(context.url));
    const successor = context.use(new Running(db, options));
    await successor.atLeast(left.length);
    await notifyMany(context.admin, [{ channel: "c", payload: 201 }]);
    await successor.atLeast(left.length + 1);
    assert.deepEqual(successor.payloads, [...left, 201]);
  });
}

test("a position that goes on leaves nothing of what was handled ahead of it", async (context) => {
  await notifyMany(
    context.admin,
    numbers(1, 50).map((payload) => ({ channel: "c", payload })),
  );
  const db = context.use(await connect(context.url));
  const hung = Promise.withResolvers<void>();
  await using running = new Running(db, {
    concurrency: 2,
    handle: ({ payload }) => payload === 1 ? hung.promise : undefined,
  });
  const done = async () => (await context.sql("select from hark.done")).length;
  await until(async () => await done() === 49, { what: "what is ahead to be stored" });
  hung.resolve();
  await until(async () => await done() === 0, { what: "nothing to be ahead" });
  assert.equal(running.inbox.items.length, 50);
});

test("a dead letter of an earlier time that is retried waits, although its notification was handled since", async (context) => {
  await notifyMany(context.admin, [{ channel: "c", payload: 1 }]);
  const db = context.use(await connect(context.url));
  await using running = new Running(db, {});
  await running.atLeast(1);
  await running.stop();
  await context.sql(
    "insert into hark.waiting (consumer, id, partition, state) values ('c', 1, 0, 'retry')",
  );
  const end = async (stored: boolean) => {
    const outcome = JSON.stringify([{ kind: "end", id: 1, partition: 0, stored }]);
    await context.sql("select hark.settle('c', $1)", [outcome]);
    return (await context.sql("select from hark.waiting")).length;
  };
  assert.equal(await end(false), 1, "the handled one had not waited");
  assert.equal(await end(true), 0);
});
