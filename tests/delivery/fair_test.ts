/** How keys share a worker: in turn, and within limits. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  type Notification,
  notifyMany,
} from "../../mod.ts";
import { drain } from "../../src/edge/mod.ts";
import { patient, test, type TestContext, until, within } from "../harness/mod.ts";
import { said } from "../faults/_support/logs.ts";
import { Running } from "../faults/_support/running.ts";

/** Publishes a number for each tenant, one tenant after the other. */
async function burst(
  { admin }: TestContext,
  tenants: Record<string, number>,
  keyOf: (tenant: string, n: number) => string = (tenant) => tenant,
): Promise<void> {
  for (const [tenant, count] of Object.entries(tenants)) {
    await notifyMany(
      admin,
      Array.from({ length: count }, (_, n) => ({
        channel: "c",
        key: keyOf(tenant, n),
        payload: { tenant, n },
      })),
    );
  }
}

const others = Object.fromEntries([..."bcdefghij"].map((tenant) => [tenant, 10]));

/** Fails if the notifications of a key were not handled in their order, each once. */
function inOrder(handled: readonly Notification[]): void {
  const last = new Map<string | null, number>();
  for (const { key, id } of handled) {
    assert((last.get(key) ?? 0) < id, `${id} of ${key} after ${last.get(key)}`);
    last.set(key, id);
  }
}

for (const concurrency of [1, 4]) {
  for (const options of [{}, { partitions: 2 }, { transactional: true }]) {
    const name = JSON.stringify({ concurrency, ...options });
    test(`one tenant publishes 10,000 before nine others publish 10 each: those are handled within the first 200, ${name}`, async (context) => {
      await burst(context, { a: 10_000, ...others });
      const db = context.use(await connect(context.url));
      const handled: Notification[] = [];
      const stop = new AbortController();
      const consumer = new Consumer(db, {
        id: "c",
        channels: "c",
        limits: {},
        concurrency,
        ...options,
        handle: async (notification) => {
          await null;
          if (handled.push(notification) === 500) stop.abort();
        },
      });
      await within(consumer.run({ signal: stop.signal }), { what: "the first 500" });
      const last = handled.findLastIndex(({ key }) => key !== "a");
      assert.equal(handled.filter(({ key }) => key !== "a").length, 90);
      assert(last < 200, `the last of the others was number ${last + 1}`);
      inOrder(handled);
    });
  }
}

test("a handler that returns at once is called while the worker reads, which then holds little", async (context) => {
  await burst(context, { a: 5000, ...others });
  const db = context.use(await connect(context.url));
  const leftBy = async (id: string, handle: () => void | Promise<void>) => {
    const consumer = new Consumer(db, { id, channels: "c", limits: {}, concurrency: 4, handle });
    return (await within(drain(consumer, { limit: 20 }), { what: "the first 20" })).left;
  };
  const left = await leftBy("sync", () => {});
  assert(left < 2500, `it held ${left} beside the first 20`);
  // Other handlers wait until all is read, so that all keys take turns from the beginning.
  assert.equal(await leftBy("async", () => Promise.resolve()), 5070);
});

test("without limits, one handler at a time handles all keys in the order of ids", async (context) => {
  await burst(context, { a: 300, b: 5 });
  const db = context.use(await connect(context.url));
  const ids: number[] = [];
  const handle = ({ id }: Notification) => void ids.push(id);
  await new Consumer(db, { id: "c", channels: "c", handle }).drain();
  assert.deepEqual(ids, ids.toSorted((a, b) => a - b));
});

test("a tenant of many keys has one turn, and no more handlers at a time than allowed", async (context) => {
  await burst(context, { a: 300, b: 10, c: 10 }, (tenant, n) => `${tenant}${n % 7}`);
  const db = context.use(await connect(context.url));
  const handled: Notification[] = [];
  const running = new Map<string, number>();
  let most = 0;
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    concurrency: 8,
    limits: { by: ({ payload }) => payload.tenant, perKey: { concurrency: 2 } },
    handle: async (notification) => {
      const { tenant } = notification.payload;
      running.set(tenant, (running.get(tenant) ?? 0) + 1);
      most = Math.max(most, ...running.values());
      handled.push(notification);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running.set(tenant, running.get(tenant)! - 1);
    },
  });
  assert.equal(await within(consumer.drain(), { what: "the drain" }), 320);
  assert.equal(most, 2);
  const last = handled.findLastIndex(({ payload }) => payload.tenant !== "a");
  assert(last < 60, `the last of the others was number ${last + 1}`);
  inOrder(handled);
});

/** Drains, and gives when each notification was handled, in milliseconds. */
async function times(context: TestContext, options: ConsumerOptions) {
  const db = context.use(await connect(context.url));
  const begun = new Map<string, number[]>();
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    ...options,
    handle: ({ key }) => {
      begun.set(key!, [...begun.get(key!) ?? [], performance.now()]);
    },
  });
  await within(consumer.drain(), { what: "the drain" });
  return begun;
}

/** Fails if more began in any such time than a rate allows. */
function within2(times: readonly number[], count: number, per: number): void {
  for (const [i, at] of times.entries()) {
    const most = times[i + 2 * count];
    assert(most === undefined || most - at > per - 20, `${2 * count + 1} in ${most! - at} ms`);
  }
}

test("a key has no more starts than its rate allows, while other keys go on at once", async (context) => {
  await burst(context, { a: 20, b: 4, c: 4 });
  const rate = { count: 5, per: "300ms" };
  const begun = await times(context, { concurrency: 3, limits: { perKey: { rate } } });
  const [a, b, c] = ["a", "b", "c"].map((key) => begun.get(key)!) as [number[], number[], number[]];
  assert.deepEqual([a.length, b.length, c.length], [20, 4, 4]);
  within2(a, 5, 300);
  assert(a.at(-1)! - a[0]! > 850, `20 of a key took ${a.at(-1)! - a[0]!} ms`);
  for (const times of [b, c]) assert(times.at(-1)! < a.at(-1)!, "the others need not wait");
});

test("a worker has no more starts than its rate allows", async (context) => {
  await burst(context, { a: 10, b: 10 });
  const begun = await times(context, { concurrency: 3, limits: { rate: { count: 5, per: 250 } } });
  const all = [...begun.values()].flat().sort((a, b) => a - b);
  assert.equal(all.length, 20);
  within2(all, 5, 250);
  assert(all.at(-1)! - all[0]! > 700, `20 took ${all.at(-1)! - all[0]!} ms`);
});

test("a tenant held back by its rate keeps no other from being read, and is handled in order later, once", async (context) => {
  const db = context.use(await connect(context.url));
  await burst(context, { a: 500 }, (tenant, n) => `${tenant}${n % 5}`);
  const limits = {
    by: ({ payload }: Notification) => payload.tenant,
    perKey: { rate: { count: 3, per: "1h" } },
  };
  const running = context.use(
    new Running(db, { readAhead: 100, pageSize: 50, concurrency: 2, limits }),
  );
  await running.atLeast(3);
  await burst(context, { b: 3, c: 3 });
  await running.atLeast(9);
  const tenants = running.inbox.items.map(({ payload }) => payload.tenant).sort().join("");
  assert.equal(tenants, "aaabbbccc");
  await until(async () => {
    const [{ waiting }] = await context.sql("select count(*)::int as waiting from hark.waiting");
    return waiting >= 400;
  }, { what: "400 to wait" });
  await running.stop();
  const later: Notification[] = [...running.inbox.items];
  const handle = (notification: Notification) => void later.push(notification);
  await new Consumer(db, { id: "c", channels: "c", handle }).drain();
  inOrder(later);
  assert.equal(later.length, 506);
});

test("a drain ends when all is handled, also what a rate has held back and set aside", async (context) => {
  await burst(context, { a: 30 }, (tenant, n) => `${tenant}${n}`);
  const begun = await times(context, {
    readAhead: 10,
    pageSize: 10,
    pollInterval: 20,
    limits: { by: () => "all", perKey: { rate: { count: 10, per: "1s" } } },
  });
  assert.equal(begun.size, 30);
});

/** So many that a rate still holds some back after a pause of the server, in which handlers went on. */
const backlog = 60;

test("a worker whose limits hold back all that may wait says so, and goes on when they let it", async (context) => {
  await burst(context, { a: backlog }, (tenant, n) => `${tenant}${n}`);
  const db = context.use(await connect(context.url));
  const since = Date.now();
  const limits = { by: () => "all", perKey: { rate: { count: 5, per: patient(200) } } };
  const options = { readAhead: 10, pageSize: 10, maxWaiting: 10, limits };
  const running = context.use(new Running(db, options));
  await said("warning", /c: limits hold back all \d+ notifications/, since);
  await running.atLeast(backlog);
  inOrder(running.inbox.items);
});

test("a key whose backlog under a rate is larger than may wait is told, and handled in order all the same", async (context) => {
  await burst(context, { a: backlog, b: 3 });
  const db = context.use(await connect(context.url));
  const since = Date.now();
  const limits = { perKey: { rate: { count: 5, per: patient(200) } } };
  const options = { readAhead: 10, pageSize: 10, maxWaiting: 10, limits };
  const running = context.use(new Running(db, options));
  await said("error", /partition 0 has \d+ waiting notifications/, since);
  await running.atLeast(backlog + 3);
  inOrder(running.inbox.items);
});

test("what fails within a limit comes again, and what cannot be grouped takes its turn by its key", async (context) => {
  const db = context.use(await connect(context.url));
  await burst(context, { a: 3, b: 3 });
  const since = Date.now();
  const running = context.use(
    new Running(db, {
      concurrency: 2,
      retry: { initial: 10, maximum: 10 },
      limits: {
        perKey: { concurrency: 1 },
        by: ({ payload }) => {
          if (payload.n === 1) throw new Error("no tenant");
          return payload.tenant;
        },
      },
      handle: ({ attempt, payload }) => {
        if (attempt === 1 && payload.n !== 2) throw new Error("again");
      },
    }),
  );
  await running.atLeast(10);
  await until(async () => (await context.sql("select from hark.waiting")).length === 0);
  await said("error", /limits\.by failed for notification [25].*no tenant/, since);
  for (const key of ["a", "b"]) {
    const of = running.inbox.items.filter((n) => n.key === key);
    assert.deepEqual(of.map(({ payload, attempt }) => `${payload.n}/${attempt}`), [
      "0/1",
      "0/2",
      "1/1",
      "1/2",
      "2/1",
    ]);
  }
});
