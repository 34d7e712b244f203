import assert from "node:assert/strict";
import { test, waitsFor } from "../harness/mod.ts";

test("cleaning removes nothing that belongs to a consumer being registered at the same time", async (context) => {
  const { sql, client } = context;
  const registering = await client();
  const cleaning = await client();
  await registering.query("begin");
  await registering.query("select hark.register('late', array['c'], 'now')");
  await sql("select hark.notify('c', '1')");
  const cleaned = cleaning.query("select removed from hark.clean(now() + interval '1 hour')");
  await waitsFor(registering, "hark.clean(");
  await registering.query("commit");
  assert.equal(Number((await cleaned).rows[0].removed), 0);
  assert.equal((await sql("select unread::integer from hark.status()"))[0].unread, 1);

  // And the other way round: who registers waits for the batch in hand, and begins after it.
  await cleaning.query("begin");
  await cleaning.query("select hark.clean(now() + interval '1 hour')");
  await registering.query("set lock_timeout = '200ms'");
  await assert.rejects(
    registering.query("select hark.register('later', array['c'], 'now')"),
    { code: "55P03" },
  );
  await cleaning.query("rollback");
});

test("a consumer that is removed no longer holds back cleaning", async ({ sql }) => {
  await sql("select hark.register('idle', array['c'])");
  await sql("select hark.notify('c', '1')");
  const clean = "select removed::integer, kept::integer from hark.clean(now() + interval '1 hour')";
  assert.deepEqual(await sql(clean), [{ removed: 0, kept: 1 }]);
  assert.deepEqual(await sql("select hark.remove_consumer('idle') as removed"), [{
    removed: true,
  }]);
  assert.deepEqual(await sql("select hark.remove_consumer('idle') as removed"), [{
    removed: false,
  }]);
  assert.deepEqual(await sql(clean), [{ removed: 1, kept: 0 }]);
});
