/** What a woken consumer asked for in vain is asked for again at once, not at the next poll. */

import { connect } from "../../mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { NEVER_POLL, Running } from "../faults/_support/running.ts";
import { replaceIn } from "../windows/_support/staging.ts";

/** A consumer that is woken by LISTEN alone, and has come to rest. */
async function atRest(context: TestContext, partitions = 1): Promise<Running> {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL, partitions }));
  await running.consumer.ready;
  await context.sql("select hark.notify('c')");
  await running.atLeast(1);
  await until(
    async () => (await context.sql("select from hark.sleepers where channel = 'c'")).length > 0,
    { what: "the consumer to sleep" },
  );
  return running;
}

for (const how of ["pg_cancel_backend", "pg_terminate_backend"]) {
  test(`a consumer whose read is ended by ${how} reads again at once`, async (context) => {
    const running = await atRest(context);
    // A lock that a heartbeat does not wait for: while it waits, its connection hears no NOTIFY.
    await replaceIn(context.url, {
      rule: "",
      in: "hark.window",
      from: "if served is distinct",
      to: "perform pg_advisory_xact_lock_shared(77); if served is distinct",
    });
    const gate = await context.client();
    await gate.query("begin; select pg_advisory_xact_lock(77)");
    await context.sql("select hark.notify('c')");
    await until(async () => {
      const [row] = await context.sql(
        `select ${how}(a.pid) from pg_stat_activity a where a.datname = current_database()
          and a.wait_event_type = 'Lock' and a.query like '%hark.window%'`,
      );
      return row !== undefined;
    }, { what: "the consumer's read" });
    await gate.query("rollback");
    await running.atLeast(2, { deadline: 3000 });
  });
}

test("a consumer that has lost one partition goes on reading the other at once", async (context) => {
  const running = await atRest(context, 2);
  await context.sql(`
    with process as (
      insert into hark.processes (id, lease_until) values (gen_random_uuid(), now() + interval '1 hour') returning id
    ), worker as (
      insert into hark.workers (consumer, owner, process) select 'c', gen_random_uuid(), p.id from process p returning owner
    )
    update hark.partitions s set epoch = s.epoch + 1, owner = w.owner from worker w where s.partition = 1`);
  const [{ key }] = await context.sql(
    "select n::text as key from generate_series(1, 100) n where hark.partition_of(n::text, 0, 2) = 0 limit 1",
  );
  await context.sql("select hark.notify('c', '{}', $1)", [key]);
  await running.atLeast(2, { deadline: 3000 });
});
