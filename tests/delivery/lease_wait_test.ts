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

/** Its lease ends now. */
async function leaseEnds({ sql }: TestContext): Promise<void> {
  await sql("update hark.processes set lease_until = clock_timestamp() where name = 'web-3:4711'");
}

test("a drain that waits for the lease of a killed one says whose and how long", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "waits", channels: "c", handle() {} });
  assert.equal(await consumer.drain(), 0);
  await notify(db, "c", 1);
  await killed(context, "waits", "1 hour");
  const begun = Date.now();
  const drained = consumer.drain();
  await said(
    "warning",
    /^waits: waiting for web-3:4711, which serves partition 0; if it was killed, for the end of its lease, up to 3[56]\d{5} ms$/,
    begun,
  );
  await leaseEnds(context);
  assert.equal(await within(drained, { deadline: 20_000 }), 1);
  assert.equal(waits("waits").length, 1, waits("waits").join("\n"));
});

test("a run that waits for the lease of a killed drain says so, and then serves", async (context) => {
  const db = context.use(await connect(context.url));
  // One that lives would have more than half of its lease left.
  const options = { id: "stands", channels: "c", lease: "2h", handle() {} } as const;
  await new Consumer(db, options).drain();
  await notify(db, "c", 1);
  await killed(context, "stands", "50 minutes");
  const begun = Date.now();
  const consumer = new Consumer(db, options);
  const running = consumer.run();
  await said("warning", /^stands: waiting for web-3:4711, which serves partition 0; /, begun);
  await leaseEnds(context);
  await until(async () =>
    (await context.sql("select handled from hark.status()"))[0]?.handled == 1
  );
  await consumer.stop();
  await running;
  assert.equal(waits("stands").length, 1);
});
