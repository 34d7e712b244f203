import assert from "node:assert/strict";
import { cleanup, connect, Consumer, migrate, notify } from "../../mod.ts";
import {
  type Client,
  connect as plain,
  disconnect,
  ownServer,
  test,
  until,
} from "../harness/mod.ts";
import { NEVER_POLL, numbers, publish, Running } from "../faults/_support/running.ts";
import { all, from, names, type On, segments } from "./_support/segments.ts";

test("cleanup empties segments that are old and passed by everybody, and drops them", async (context) => {
  const db = context.use(await connect(context.url));
  const reads = (id: string) => new Consumer(db, { id, channels: "c", handle() {} });
  await context.sql("select hark.register('behind', array['c'])");
  await publish(context, 1, 5);
  await from(context, 1_000_001);
  await publish(context, 6, 10);
  await from(context, 2_000_001);
  await publish(context, 11, 15);
  await reads("quick").drain();
  const kept = await cleanup(db, { olderThan: all });
  assert.deepEqual([kept.removed, kept.kept], [0, 15]);
  assert.deepEqual(kept.keptFor.map(({ consumer }) => consumer), ["behind"]);
  assert.deepEqual((await segments(context)).slice(0, 3).map(({ rows }) => rows), [5, 5, 5]);

  await reads("behind").drain();
  await reads("quick").drain();
  const recent = new Date(Date.now() - 60_000);
  assert.equal((await cleanup(db, { olderThan: recent })).removed, 0);
  const { removed, bytes, more } = await cleanup(db, { olderThan: all });
  assert.equal(removed, 15);
  assert(bytes > 0);
  assert.equal(more, false);
  assert.deepEqual(await context.sql("select from hark.log"), []);
  const left = await names(context);
  assert(!left.includes("log_0") && !left.includes("log_1000000"), left.join());
  assert.equal(left[0], "log_2000000", "the segment of the next id stays");
  const running = context.use(new Running(db, { id: "quick", pollInterval: NEVER_POLL }));
  await publish(context, 16, 17);
  await running.atLeast(2);
  assert.deepEqual(running.payloads, [16, 17]);
});

test("a segment with what waits, or is to be replayed, is not emptied, even by force", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("select hark.register('r', array['c'])");
  await publish(context, 1, 5);
  await from(context, 1_000_001);
  await publish(context, 6, 10);
  await from(context, 2_000_001);
  await new Consumer(db, { id: "r", channels: "c", handle() {} }).drain();
  await context.sql(
    "insert into hark.waiting (consumer, id, partition, state) values ('r', 3, 0, 'failed')",
  );
  await context.sql("select hark.replay('r', 1000002, 1000003)");
  await cleanup(db, { olderThan: all, force: true });
  const left = await context.sql("select id::int from hark.log order by id");
  assert.deepEqual(left.map(({ id }) => id), [3, 1_000_002, 1_000_003]);
});

test("of a segment that is not wholly old up to 50,000 go one by one; more stay, unless it is to be exact", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("select hark.notify('c') from generate_series(1, 60000)");
  await context.sql("update hark.log set created_at = created_at - interval '9 days'");
  await publish(context, 1, 1);
  await notify(db, "c", 2, { dedupe: { key: "expired", within: 0.001 } });
  const first = await cleanup(db, { olderThan: "7d" });
  assert.deepEqual([first.removed, first.more, first.complete], [0, true, true]);
  assert.deepEqual(
    await context.sql("select from hark.dedupe"),
    [],
    "what has expired goes all the same",
  );
  const exactly = await cleanup(db, { olderThan: "7d", exact: true });
  assert.deepEqual([exactly.removed, exactly.more], [60_000, false]);
  assert.deepEqual(await context.sql("select id::int from hark.log order by id"), [{ id: 60_001 }, {
    id: 60_002,
  }]);
});

test("a segment that another session is about to drop does not make the emptying fail", async (context) => {
  await publish(context, 1, 5);
  await from(context, 1_000_001);
  await publish(context, 6, 10);
  await from(context, 2_000_001);
  const dropping = await context.client();
  await dropping.query("begin; lock table hark.log_1000000 in access exclusive mode");
  assert.deepEqual(await context.sql("select segment from hark.empty_segment(now(), true)"), []);
  await dropping.query("rollback");
  assert.equal((await context.sql("select from hark.empty_segment(now(), true)")).length, 1);
});

/** An open transaction that has published, in all that is made, emptied and dropped in that time; `end` ends it. */
async function staysOpen(
  on: On,
  stay: (open: Client) => Promise<unknown>,
  end: (open: Client) => Promise<unknown>,
) {
  await using db = await connect(on.url);
  await using running = new Running(db, { pollInterval: NEVER_POLL });
  await publish(on, 1, 2);
  const open = await plain(on.url);
  try {
    await open.query("begin");
    await open.query("set local hark.wake = off");
    await open.query("select hark.notify('c', '\"open\"')");
    await stay(open);
    await from(on, 1_000_001);
    await publish(on, 3, 4);
    await from(on, 3_999_999);
    await running.atLeast(4);
    const others = publish(on, 5, 300);
    for (let n = 0; n < 5; n++) {
      await cleanup(db, { olderThan: all });
      assert.equal((await on.sql("select hark.drop_segments() as n"))[0].n, 0);
    }
    await others;
    await running.atLeast(300);
    assert((await names(on)).includes("log_0"), "what it has written to is there");
    await end(open);
    await publish(on, 301, 301);
    await running.atLeast(302);
    const payloads = running.payloads.filter((payload) => payload !== "open");
    assert.deepEqual(payloads, numbers(1, 301));
    assert.equal(running.payloads.length, 302);
    await until(async () => {
      // A consumer stores where it is when something comes.
      await on.sql("select hark.notify('c')");
      await cleanup(db, { olderThan: all });
      const left = await names(on);
      return !left.includes("log_0") && left.length > 3;
    }, { what: "the old segment to be gone, and new ones to be there" });
  } finally {
    await disconnect(open);
  }
}

test("a publisher that stays open holds up no other, and loses nothing, whatever is made, emptied and dropped", async (context) => {
  await staysOpen(context, () => Promise.resolve(), (open) => open.query("commit"));
});

test("one that is prepared holds up no other, and loses nothing", { schema: false }, async () => {
  await using server = await ownServer({ settings: { max_prepared_transactions: "5" } });
  await using db = await connect(server.url);
  await migrate(db);
  await staysOpen(
    server,
    (open) => open.query("prepare transaction 'stays'"),
    (open) => open.query("commit prepared 'stays'"),
  );
});

test(
  "cleaning all that is passed, all the time, while ids go from segment to segment, loses and repeats nothing",
  {
    timeout: 120_000,
  },
  async (context) => {
    const db = context.use(await connect(context.url, { poolSize: 8 }));
    const running = context.use(
      new Running(db, { partitions: 3, concurrency: 4, acknowledgeInterval: 20 }),
    );
    // What is cleaned before a consumer is registered is not for it.
    const committed: number[] = [0];
    await publish(context, 0, 0);
    await running.atLeast(1);
    /** This many times the first writer goes 150,000 ids on. */
    let rounds = 80;
    let next = 1;
    const writer = async (worker: number) => {
      const client = await plain(context.url);
      try {
        while (rounds > 0) {
          const mine = numbers(next, next + Math.floor(Math.random() * 4));
          next += mine.length;
          await client.query("begin");
          for (const n of mine) {
            await client.query("select hark.notify('c', $1, $2)", [String(n), `k${n % 7}`]);
            if (Math.random() < 0.2) await client.query("select pg_sleep(0.01)");
          }
          const commits = Math.random() < 0.8;
          await client.query(commits ? "commit" : "rollback");
          if (commits) committed.push(...mine);
          if (worker === 0) {
            rounds--;
            await client.query(
              "select setval('hark.log_id_seq', nextval('hark.log_id_seq') + 150000)",
            );
          }
        }
      } finally {
        await disconnect(client);
      }
    };
    const cleaner = async () => {
      let removed = 0;
      while (rounds > 0) {
        removed += (await cleanup(db, { olderThan: all })).removed;
      }
      return removed;
    };
    const [removed] = await Promise.all([cleaner(), ...[0, 1, 2, 3].map(writer)]);
    await running.atLeast(committed.length, { deadline: 60_000 });
    assert.deepEqual(
      running.payloads.toSorted((a, b) => Number(a) - Number(b)),
      committed.toSorted((a, b) => a - b),
    );
    assert(removed > 0);
    // Where the writers are slow, one of them is always in the way of dropping a segment. Now none is.
    await until(async () => {
      // A consumer stores where it is when something comes.
      await context.sql("select hark.notify('c')");
      await cleanup(db, { olderThan: all });
      const [row] = await context.sql(
        "select count(*) * 1000000 < hark.last_drawn_id() as are_few from hark.segments()",
      );
      return row.are_few;
    }, { what: "the segments to be fewer than those that were written to" });
  },
);
