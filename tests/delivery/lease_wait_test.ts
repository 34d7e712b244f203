import assert from "node:assert/strict";
import { connect, Consumer, notify } from "../../mod.ts";
import { logged, said, sentence } from "../faults/_support/logs.ts";
import { test, type TestContext, until, within } from "../harness/mod.ts";

/** As a drain leaves it that was killed: its lease runs, and it has no LISTEN session. */
async function killed({ sql }: TestContext, consumer: string, left: string): Promise<void> {
  await sql(
    `with p as (insert into hark.processes (id, name, lease_until)
      values (gen_random_uuid(), 'web-3:4711', clock_timestamp() + $2::interval) returning id)
    insert into hark.workers (consumer, owner, process) select $1, p.id, p.id from p`,
    [consumer, left],
  );
  await sql(
    "update hark.partitions set owner = (select w.owner from hark.workers w where w.consumer = $1) where consumer = $1",
    [consumer],
  );
}

/** What was said about a consumer's waiting. Other tests of the program log too. */
function waits(consumer: string): string[] {
  return logged.items.map(sentence).filter((words) =>
    words.startsWith(`${consumer}: waiting for `)
  );
}

test("a drain that waits for the lease of a killed one says whose and how long", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "waits", channels: "c", handle() {} });
  assert.equal(await consumer.drain(), 0);
  await notify(db, "c", 1);
  await killed(context, "waits", "2 s");
  const begun = Date.now();
  assert.equal(await within(consumer.drain(), { deadline: 20_000 }), 1);
  await said(
    "warning",
    /^waits: waiting for web-3:4711, which serves partition 0; if it was killed, for the end of its lease, up to \d{2,3} ms$/,
    begun,
  );
  assert.equal(waits("waits").length, 1, waits("waits").join("\n"));
});

test("a run that waits for the lease of a killed drain says so, and then serves", async (context) => {
  const db = context.use(await connect(context.url));
  const options = { id: "stands", channels: "c", handle() {} };
  await new Consumer(db, options).drain();
  await notify(db, "c", 1);
  // Longer than a consumer takes to start on a busy machine.
  await killed(context, "stands", "6 s");
  const begun = Date.now();
  const consumer = new Consumer(db, options);
  const running = consumer.run();
  await until(async () =>
    (await context.sql("select handled from hark.status()"))[0]?.handled == 1
  );
  await said("warning", /^stands: waiting for web-3:4711, which serves partition 0; /, begun);
  await consumer.stop();
  await running;
  assert.equal(waits("stands").length, 1);
});
