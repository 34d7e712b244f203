import assert from "node:assert/strict";
import { connect, Consumer, status } from "../../mod.ts";
import { connect as plain, disconnect, test, until } from "../harness/mod.ts";
import { NEVER_POLL, numbers, publish, Running } from "../faults/_support/running.ts";
import { from, names, segments } from "./_support/segments.ts";

test("publishing goes from segment to segment, and needs none that is ready", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await publish(context, 1, 3);
  await from(context, 999_998);
  await publish(context, 4, 8); // from the first segment to the second
  await from(context, 3_999_998);
  const ids = await publish(context, 9, 13); // and past the last
  assert.deepEqual(ids, [3_999_998, 3_999_999, 4_000_000, 4_000_001, 4_000_002]);
  await running.atLeast(13);
  assert.deepEqual(running.payloads, numbers(1, 13));
  const rest = (await segments(context)).find(({ name }) => name === "log_overflow");
  assert.equal(rest?.rows, 3);
  // What is published next stays there until a new segment begins; then it comes to that.
  const [{ made }] = await context.sql("select hark.extend() as made");
  assert(made >= 2, `${made} segments`);
  await publish(context, 14, 15);
  const [{ next }] = await context.sql(
    "select min(lower)::int as next from hark.segments() where lower > 4000000",
  );
  await from(context, next - 1);
  await publish(context, 16, 18);
  await running.atLeast(18);
  assert.deepEqual(running.payloads, numbers(1, 18));
  assert.deepEqual(
    (await segments(context)).filter(({ rows }) => rows > 0).map(({ rows }) => rows),
    [5, 3, 2, 2, 6],
  );
  assert.equal((await status(db)).log.rows, 18);
});

test("a worker makes room for what is published next", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  await from(context, 2_500_000);
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await context.sql("select hark.notify('c') from generate_series(1, 11000)");
  await running.atLeast(11_001);
  await until(async () => (await names(context)).includes("log_6000000"));
});

test("segments are made however many there are, and what lies between two of them becomes one", async (context) => {
  const { sql } = context;
  for (let n = 0; n < 20; n++) {
    await from(context, n * 1_000_000 + 2);
    await sql("select hark.notify('c')");
    await sql("select hark.extend()");
  }
  const spans = await sql(
    "select (upper - lower)::int as span from hark.segments() where lower > 0",
  );
  assert(spans.length >= 10 && spans.length < 25, `${spans.length} segments`);
  assert(spans.some(({ span }) => span > 1_000_000), "they become larger");
  // A gap before the next segment, filled by what is published there.
  const [{ top }] = await sql("select max(upper)::int as top from hark.segments()");
  await from(context, top + 1);
  await sql("select hark.notify('c')");
  await sql("select hark.extend()");
  await sql(
    "insert into hark.log (channel, payload) select 'c', to_jsonb(repeat('x', 1000)) from generate_series(1, 45000)",
  );
  assert.equal((await segments(context)).at(-1)!.rows, 45_001);
  await sql("select setval('hark.log_id_seq', (select max(upper) from hark.segments()) - 100)");
  await until(async () => {
    await sql("select hark.extend()");
    return (await segments(context)).at(-1)!.rows === 0;
  });
  assert.deepEqual((await sql("select count(*)::int as n from hark.log"))[0], { n: 45_021 });
});

test("a statement that publishes for long fails for no segment that is made during it", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await publish(context, 0, 0);
  await running.atLeast(1);
  await from(context, 3_999_999);
  const gate = await context.client();
  await gate.query("begin; select pg_advisory_xact_lock(1)");
  const long = await plain(context.url);
  try {
    const inserted = long.query(
      `insert into hark.published (channel, payload)
        select 'c', to_jsonb(n) from generate_series(1, 6) n,
          lateral (select case when n = 4 then pg_advisory_xact_lock_shared(1) end) gate`,
    );
    inserted.catch(() => {}); // awaited below, unless the test fails before
    await until(async () =>
      (await context.sql(
        // Only this database: tests of others on the same server may wait for such a lock, too.
        `select from pg_locks where locktype = 'advisory' and objid = 1 and not granted
          and database = (select oid from pg_database where datname = current_database())`,
      )).length > 0
    );
    for (let n = 0; n < 10; n++) {
      assert.equal((await context.sql("select hark.extend() as made"))[0].made, 0);
    }
    await gate.query("commit");
    await inserted;
  } finally {
    await disconnect(long);
  }
  await publish(context, 7, 7);
  await running.atLeast(8);
  assert.deepEqual(running.payloads, numbers(0, 7));
  assert((await context.sql("select hark.extend() as made"))[0].made > 0);
});

test("what came while there was no segment for it becomes one, once it is much", async (context) => {
  const db = context.use(await connect(context.url));
  await from(context, 4_000_001);
  await context.sql(
    "insert into hark.log (channel, payload) select 'c', to_jsonb(repeat('x', 1500)) from generate_series(1, 20000)",
  );
  await publish(context, 1, 1);
  assert((await segments(context)).find(({ name }) => name === "log_overflow")!.rows === 20_001);
  await context.sql("select hark.extend()");
  const now = await segments(context);
  assert.deepEqual(now.filter(({ rows }) => rows > 0), [{ name: "log_4000000", rows: 20_001 }]);
  let handled = 0;
  await new Consumer(db, { id: "c", channels: "c", handle: () => void handled++ }).drain();
  assert.equal(handled, 20_001);
});
