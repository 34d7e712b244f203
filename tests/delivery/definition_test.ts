/** What a consumer is changes only on purpose: two programs that share its id do not take it from each other. */

import assert from "node:assert/strict";
import { connect, Consumer, type ConsumerOptions, type Database } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { said, sentence } from "../faults/_support/logs.ts";
import { publish, Running } from "../faults/_support/running.ts";

const served = (sql: (text: string) => Promise<unknown[]>) =>
  until(async () => (await sql("select from hark.workers")).length === 1);

const consumer = (db: Database, options: Partial<ConsumerOptions>) =>
  new Consumer(db, { id: "c", channels: "a", handle() {}, ...options });

test("an id that two programs use loses nothing: the second is refused while the first serves", async (context) => {
  const db = context.use(await connect(context.url));
  const first = context.use(new Running(db, { channels: "a" }));
  await served(context.sql);
  const others: Partial<ConsumerOptions>[] = [
    { channels: "b" },
    { channels: ["a", "b"] },
    { filter: { key: "x" } },
    { transactional: true },
  ];
  for (const other of others) {
    for (const start of ["run", "drain"] as const) {
      await assert.rejects(consumer(db, other)[start](), {
        code: "CONFLICT",
        message: /consumer "c" is served by worker .* another definition: its channels are a, /,
        remedy: /version above 0, stop the other workers, or choose another id/,
      }, `${start} ${JSON.stringify(other)}`);
    }
  }
  await publish(context, 1, 1, "a");
  await publish(context, 2, 2, "b");
  await publish(context, 3, 3, "a");
  await first.atLeast(2);
  assert.deepEqual(first.payloads, [1, 3]);
});

test("a higher version changes the definition, and the channel that it gives up is said with what is unread", async (context) => {
  const db = context.use(await connect(context.url));
  const before = { channels: ["a", "b"], version: 1 };
  const first = new Running(db, before);
  await publish(context, 1, 1, "a");
  await first.atLeast(1);
  await first.stop();
  await publish(context, 2, 4, "b");
  const since = Date.now();
  const second = context.use(new Running(db, { channels: "a", version: 2 }));
  const warning = await said("warning", /no longer reads the channels/, since);
  assert.deepEqual([warning.properties.channels, warning.properties.count], [["b"], 3]);
  assert.match(
    sentence(warning),
    / skips 3 notifications there .* hark replay c --from 2 --channel b$/,
  );
  await publish(context, 5, 5, "a");
  await second.atLeast(1);
  assert.deepEqual(second.payloads, [5]);
});

test("a command that a warning gives can be pasted into a shell, whatever the names", async (context) => {
  const db = context.use(await connect(context.url));
  const drain = (channels: string, version: number) =>
    new Consumer(db, { id: "my consumer", channels, version, handle() {} }).drain();
  await drain("it's $(it)", 1);
  await publish(context, 1, 1, "it's $(it)");
  const since = Date.now();
  await drain("other", 2);
  const warning = await said("warning", /^my consumer no longer reads/, since);
  assert.ok(
    sentence(warning).endsWith(
      `hark replay 'my consumer' --from 1 --channel 'it'\\''s $(it)'`,
    ),
    sentence(warning),
  );
});

test("a channel that was misspelt for a while: each change says what is skipped, and how to handle it", async (context) => {
  const db = context.use(await connect(context.url));
  const drain = (channels: string) =>
    new Consumer(db, { id: "loss", channels, handle() {} }).drain();
  await drain("good");
  await publish(context, 1, 1, "good");
  const since = Date.now();
  await drain("godo");
  await publish(context, 2, 2, "good");
  await drain("godo");
  const left = await said("warning", /^loss no longer reads the channels good, /, since);
  assert.match(
    sentence(left),
    / and skips 1 notification there .* hark replay loss --from 1 --channel good$/,
  );
  await drain("good");
  const back = await said("warning", /^loss now reads the channels good; /, since);
  assert.match(
    sentence(back),
    /before, it read godo\. It skips 2 notifications published on good earlier\. To handle them: hark replay loss --from 1 --channel good$/,
  );
});

test("without a live worker the definition changes at the same version: after a stop, and after a crash", async (context) => {
  const db = context.use(await connect(context.url));
  const first = new Running(db, { channels: "a" });
  await served(context.sql);
  await first.stop();
  assert.equal(await consumer(db, { channels: "b" }).drain(), 0);
  // A worker whose session is gone: its lease runs on.
  await context.sql(`with p as (insert into hark.processes (id, session, lease_until)
      values (gen_random_uuid(), 42, now() + interval '1 hour') returning id)
    insert into hark.workers (consumer, owner, process) select 'c', p.id, p.id from p`);
  await publish(context, 1, 1, "a");
  assert.equal(await consumer(db, { channels: ["a", "b"] }).drain(), 1, "from where it stands");
  // One without a session, as behind a pooler, counts as alive until its lease ends.
  await context.sql(`with p as (insert into hark.processes (id, lease_until)
      values (gen_random_uuid(), now() + interval '1 hour') returning id)
    insert into hark.workers (consumer, owner, process) select 'c', p.id, p.id from p`);
  await assert.rejects(consumer(db, { channels: "b" }).drain(), { code: "CONFLICT" });
  await context.sql("update hark.processes set lease_until = now() - interval '1 second'");
  assert.equal(await consumer(db, { channels: "b" }).drain(), 0);
});
