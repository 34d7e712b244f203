import assert from "node:assert/strict";
import { connect, notifyMany, type Queryable } from "../../mod.ts";
import { relay, type Sink } from "../../src/relay/mod.ts";
import { HarkError } from "../../src/errors.ts";
import { test, until } from "../harness/mod.ts";

/** A target of the test's own. It stores nothing until `open` resolves. */
function target(open: Promise<void> = Promise.resolve()) {
  const stored: string[] = [];
  const tried: string[] = [];
  const looks: number[] = [];
  const sink: Sink = {
    kind: "test",
    open: () =>
      Promise.resolve({
        target: "a test",
        warnings: [],
        get end() {
          return stored.length;
        },
        async publish({ id }) {
          tried.push(id);
          await open;
          return { place: stored.push(id), duplicate: false };
        },
        describe: () => "a test",
        recover: () => Promise.resolve(new Set<string>()),
        publishedBehind(place) {
          looks.push(place);
          return Promise.resolve({ ids: new Set(stored.slice(place)), end: stored.length });
        },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  };
  return { sink, stored, tried, looks };
}

const orders = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ channel: "orders", key: `k${i % 20}`, payload: i }));

test("while its target is away, a relay waits, and leaves nothing behind for the next worker to sort", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  const back = Promise.withResolvers<void>();
  const { sink, stored, tried } = target(back.promise);
  const out = relay(db, { id: "out", channels: "orders", to: sink });
  const running = out.run();
  await out.ready;
  // All keys are under way, and a handler is free.
  await notifyMany(db, orders(20));
  await until(() => tried.length === 20);
  for (let i = 0; i < 3; i++) await notifyMany(db, orders(2_000)); // more than it reads ahead
  const begun = performance.now();
  // Longer than any handler of another consumer would be waited for.
  await until(() => performance.now() - begun > 3_500);
  const [{ count }] = await sql("select count(*)::int as count from hark.waiting");
  back.resolve();
  await until(() => stored.length >= 6_020);
  await out.stop();
  await running;
  assert.equal(count, 0);
  assert.equal(new Set(stored).size, 6_020);
});

test("a relay looks into its target once for all partitions that it takes over", async ({ url, use }) => {
  const db = use(await connect(url));
  const { sink, stored, looks } = target();
  await notifyMany(db, orders(200));
  await relay(db, { id: "out", channels: "orders", to: sink, partitions: 8 }).drain();
  assert.equal(stored.length, 200);
  assert(looks.length <= 2, `${looks.length} looks`);
});

test("a relay goes on if its database was away when it took a partition over", async ({ url, use }) => {
  const db = use(await connect(url));
  const { sink, stored } = target();
  await notifyMany(db, orders(20));
  let refused = 0;
  const away: Queryable = {
    query(text: string, values?: unknown[]) {
      if (text.includes("hark.relay_place") && values?.[1] === 0 && refused++ < 2) {
        return Promise.reject(new HarkError("UNREACHABLE", "the database is away"));
      }
      return db.query(text, values);
    },
  };
  await relay(away, { id: "out", channels: "orders", to: sink }).drain();
  assert.equal(stored.length, 20);
  assert.equal(refused, 3);
});
