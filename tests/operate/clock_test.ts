/** The server's clock went a year ahead and back: what it stored then holds up no upkeep. */

import assert from "node:assert/strict";
import { connect, Consumer, notify, schedule, setRetention } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";

test("upkeep goes on after the server's clock went ahead and back", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await notify(db, "c", 1);
  await sql("update hark.log set created_at = created_at - interval '10 days'");
  await setRetention(db, "7d");
  const ahead = "clock_timestamp() + interval '1 year'";
  await sql(`update hark.retention set next_at = ${ahead}, begun_at = ${ahead}, after_id = 100`);
  assert.deepEqual(await sql("select hark.retention_due() as due"), [{ due: true }]);
  const [applied] = await sql(
    "select removed::int, next_ms <= 60000 as soon from hark.apply_retention()",
  );
  assert.deepEqual(applied, { removed: 1, soon: true });

  await sql(`update hark.upkeep set thinned_at = ${ahead}`);
  await sql("select hark.thin_marks()");
  const [upkeep] = await sql("select thinned_at <= clock_timestamp() as it_ran from hark.upkeep");
  assert.deepEqual(upkeep, { it_ran: true });

  await sql("select hark.measure(gen_random_uuid())");
  await sql(`update hark.reporter set until = ${ahead}`);
  const [measured] = await sql("select hark.measure(gen_random_uuid()) is not null as it_tells");
  assert.deepEqual(measured, { it_tells: true });
});

test("a schedule that a clock ahead put off is due again once its program stores it anew", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const store = () => schedule(db, "tick", "* * * * *", { channel: "c" });
  const next = await store();
  await sql("update hark.schedules set next_at = next_at + interval '1 year'");
  assert((await store())!.getTime() - next!.getTime() <= 3_600_000, "not a year later");
  // One that is published since the program computed when it is due is not due again.
  await sql("update hark.schedules set next_at = '2100-01-01'");
  const [{ due }] = await sql(
    "select hark.schedule('tick', '* * * * *', 'UTC', now() - interval '1 s', 'c') = '2100-01-01' as due",
  );
  assert.equal(due, true);
});

test("a drain that died before the clock went back holds its partitions up for its lease at most", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const handled: unknown[] = [];
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    handle: ({ payload }) => void handled.push(payload),
  });
  await consumer.drain();
  await sql(`with p as (
      insert into hark.processes (id, lease_until, renewed_at)
      select gen_random_uuid(), t + interval '15 s', t from (select now() + interval '1 hour' as t) t returning id
    ), w as (
      insert into hark.workers (consumer, owner, process) select 'c', p.id, p.id from p returning owner
    )
    update hark.partitions s set owner = w.owner, epoch = epoch + 1 from w where s.consumer = 'c'`);
  await notify(db, "c", 1);
  await consumer.drain();
  assert.deepEqual(handled, [1]);
  assert.deepEqual(
    await sql("select alive from hark.workers_of('c') where alive"),
    [],
    "no dead worker is shown as living",
  );
});

test("marks are stored again after the server's clock went ahead and back", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await notify(db, "c", 1);
  await sql("select hark.cut()");
  await sql(
    "update hark.marks set taken_at = taken_at + interval '1 year', looked_at = looked_at + interval '1 year' where number > 0",
  );
  await notify(db, "c", 2);
  assert.deepEqual(await sql("select hark.wants_cut(hark.look()) as cut"), [{ cut: true }]);
});

test("a long transaction that does not publish costs readers no more after the clock went back", async (context) => {
  const { url, use, sql } = context;
  const db = use(await connect(url));
  const long = await context.client();
  await long.query("begin");
  await long.query("select pg_current_xact_id()");
  await sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 20) n");
  await sql("select hark.cut()");
  await sql("update hark.marks set looked_at = clock_timestamp() + interval '1 year'");
  await sql("select setval('hark.log_id_seq', 20000)");
  // Transactions of other tests on the server may be in the way of the first look.
  await until(async () => {
    await notify(db, "c", 2);
    await sql("select hark.cut()");
    const [{ low }] = await sql(
      "select low::int from hark.marks order by upper desc, running, number desc limit 1",
    );
    return low >= 20; // not 0, where the long transaction began
  }, { what: "the long transaction to be known as one without notifications" });
  await long.query("rollback");
});
