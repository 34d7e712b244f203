import assert from "node:assert/strict";
import {
  connect,
  type Duration,
  notify,
  retention,
  setRetention,
  status,
  unsetRetention,
} from "../../mod.ts";
import { test, type TestContext, until, within } from "../harness/mod.ts";
import { Running } from "../faults/_support/running.ts";

async function age({ sql }: TestContext, days: number, where = "true"): Promise<void> {
  await sql(
    `update hark.log set created_at = created_at - $1::int * interval '1 day' where ${where}`,
    [days],
  );
}

/** The ids left in the log. */
async function left({ sql }: TestContext): Promise<number[]> {
  return (await sql("select id::int from hark.log order by id")).map(({ id }) => id);
}

/** Applies what is due, again and again, as a worker does, until nothing is. */
async function applyAll({ sql }: TestContext): Promise<number> {
  let removed = 0;
  for (;;) {
    const [row] = await sql("select removed::int, next_ms from hark.apply_retention()");
    removed += row.removed;
    if (row.next_ms === null || row.next_ms > 1000) return removed;
    await sql(`${due} where next_at < clock_timestamp() + interval '1 second'`);
  }
}

const due = "update hark.retention set next_at = clock_timestamp()";

test("running workers remove what is older than the retention, and nothing that is needed", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await sql("select hark.register('behind', array['c'])");
  await sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 6) n");
  const running = use(
    new Running(db, {
      lease: 400, // it looks four times as often
      retry: { initial: "2h", maximum: "2h" },
      handle: (n) => {
        if (n.payload === 2) throw new Error("not yet");
      },
    }),
  );
  await running.atLeast(6);
  await until(async () =>
    (await sql("select from hark.partitions where consumer = 'c' and handled = 5")).length === 1
  );
  await age(context, 10, "id <= 4");
  await setRetention(db, "7d");
  await until(async () => (await sql("select applied_at from hark.retention"))[0].applied_at);
  assert.deepEqual(await left(context), [1, 2, 3, 4, 5, 6]); // for the consumer that is behind
  await sql("select hark.remove_consumer('behind')");
  await sql(due);
  await until(async () => (await left(context)).length === 3);
  // 2 waits for its next attempt, 5 and 6 are younger.
  assert.deepEqual(await left(context), [2, 5, 6]);
  const [setting] = await retention(db);
  assert.deepEqual(
    [setting!.channel, setting!.keep, setting!.removed, setting!.appliedAt !== null],
    [null, 7 * 86_400_000, 3, true],
  );
  assert.deepEqual((await status(db)).retention, await retention(db));
});

test("each channel is kept for its own time, or for ever", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  for (const channel of ["audit", "heartbeats", "orders", "heartbeats", "orders", "audit"]) {
    await notify(db, channel, {});
  }
  await age(context, 40, "id <= 3");
  await age(context, 2, "id > 3");
  await setRetention(db, "30d");
  await setRetention(db, "1d", { channel: "heartbeats" });
  await setRetention(db, "forever", { channel: "audit" });
  assert.equal(await applyAll(context), 3);
  assert.deepEqual(await left(context), [1, 5, 6]);
  // A change of mind counts for what was passed before.
  assert.equal(await unsetRetention(db, { channel: "audit" }), true);
  assert.equal(await unsetRetention(db, { channel: "audit" }), false);
  await sql(due);
  await applyAll(context);
  assert.deepEqual(await left(context), [5, 6]);
  assert.equal(await unsetRetention(db), true);
  await age(context, 1000);
  await sql(due);
  await applyAll(context);
  assert.deepEqual(await left(context), [5, 6]); // without a setting nothing is removed
  assert.deepEqual((await retention(db)).map(({ channel }) => channel), ["heartbeats"]);
});

test("a pass goes on where it was, and comes back to what it had to keep", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await sql(
    "select hark.notify(case n % 10 when 0 then 'a' else 'b' end) from generate_series(1, 9000) n",
  );
  await sql("select hark.register('behind', array['a'], start_kind => 'now')");
  await age(context, 10, "id <= 8000");
  await setRetention(db, "1d", { channel: "a" });
  assert.equal(await applyAll(context), 800);
  const [row] = await sql("select after_id::int from hark.retention");
  assert(row.after_id >= 6000, `goes on after ${row.after_id}`);
  await age(context, 10, "id > 8000");
  await sql("select hark.seek('behind', 'id', 8500)");
  await sql(due);
  assert.equal(await applyAll(context), 49);
  await sql("select hark.remove_consumer('behind')");
  await sql(due);
  assert.equal(await applyAll(context), 51);
  assert.equal((await sql("select count(*)::int as n from hark.log"))[0].n, 8100);
});

test("retention waits for no publisher, and none waits for it: one worker of all applies it", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await sql("select hark.notify('c') from generate_series(1, 3)");
  await age(context, 10);
  await setRetention(db, "1d");
  const [one, other, publisher] = [await client(), await client(), await client()];
  // A registration in progress is in the way: this call gives up soon, the next one does it.
  await other.query("begin");
  await other.query("lock table hark.consumers in row exclusive mode");
  const apply = "select removed::int, next_ms from hark.apply_retention()";
  const first = await within(one.query(apply), { deadline: 5000 });
  assert.equal(first.rows[0].removed, 0);
  assert(first.rows[0].next_ms <= 1000);
  await other.query("rollback");
  await sql(due);
  // A publisher that stays open is not waited for, and can go on.
  await publisher.query("begin");
  await publisher.query("select hark.notify('c')");
  await one.query("begin");
  assert.equal((await within(one.query(apply), { deadline: 5000 })).rows[0].removed, 3);
  // While that one is at it, others have nothing to do, and publishers go on.
  assert.equal((await within(other.query(apply), { deadline: 5000 })).rows[0].removed, 0);
  await within(publisher.query("select hark.notify('c')"), { deadline: 5000 });
  await publisher.query("commit");
  await within(notify(db, "c", {}), { deadline: 5000 });
  await one.query("commit");
  const done = await one.query(apply);
  assert(done.rows[0].next_ms > 50_000, "it is due again after a minute");
});

test("a short retention is applied more often than every minute", async (context) => {
  const db = context.use(await connect(context.url));
  context.use(new Running(db, { lease: 400 }));
  await setRetention(db, "1s");
  await until(async () =>
    (await context.sql("select applied_at from hark.retention"))[0].applied_at
  );
  await notify(db, "c", 1);
  await until(async () => (await left(context)).length === 0, { deadline: 10_000 });
});

test("a retention that cannot be is refused", async (context) => {
  const db = context.use(await connect(context.url));
  for (const keep of [0, -1, NaN, "30", "a month", "100001d", undefined, null]) {
    await assert.rejects(setRetention(db, keep as Duration), {
      code: "BAD_OPTION",
      message: /^keep is .* or text such as "250ms"/,
    });
  }
  await assert.rejects(setRetention(db, "1d", { channel: "" }), { code: "BAD_CHANNEL" });
  for (const keep of ["0", "-1 day", "200000 days"]) {
    await assert.rejects(db.query("select hark.set_retention($1)", [keep]), { code: "BAD_OPTION" });
  }
  await assert.rejects(db.query("select hark.set_retention('1d', '')"), { code: "BAD_CHANNEL" });
  assert.deepEqual(await retention(db), []);
});
