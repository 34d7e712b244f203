import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { logged, said, sentence } from "../faults/_support/logs.ts";
import { numbers, Running } from "../faults/_support/running.ts";
import { test } from "../harness/mod.ts";

test("a partition that another transaction has locked holds up no other, is named, and is served later", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  await context.sql(
    "select hark.register('c', array['c'], 'beginning', null, null, null, false, 2)",
  );
  // Ids without a key are spread in turn: 1, 3, 5 … lie in partition 1.
  await context.sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 20) n");
  const client = await context.client();
  await client.query("begin; select from hark.partitions where partition = 1 for update");
  const running = context.use(new Running(db, { partitions: 2, lease: 3000 }));
  await running.atLeast(10);
  assert.deepEqual(running.payloads, numbers(1, 10).map((n) => 2 * n));
  await said("warning", /could not claim partitions 1: another transaction has locked/, since);
  await client.query("rollback");
  await running.atLeast(20);
  assert.equal(new Set(running.payloads).size, 20);
  const interrupted = logged.items.filter((record) =>
    record.timestamp >= since && /interrupted|lock timeout/.test(sentence(record))
  );
  assert.deepEqual(interrupted.map(sentence), []);
});
