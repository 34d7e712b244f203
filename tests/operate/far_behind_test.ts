/** A consumer so far behind that what it has to read was not found: alarms tell of it all the same. */

import assert from "node:assert/strict";
import { check, connect, doctor, pause, resume, status } from "../../mod.ts";
import { output } from "../cli/_support/hark.ts";
import { test, type TestContext } from "../harness/mod.ts";

/** The rare notification of "billing" lies beyond the million ids that are looked at. */
async function farBehind({ sql }: TestContext): Promise<void> {
  await sql("select hark.register('billing', array['rare'], 'beginning')");
  await sql("select hark.notify('often')");
  await sql("select setval('hark.log_id_seq', 2000000)");
  await sql("select hark.notify('rare')");
  await sql("update hark.log set created_at = now() - interval '1 hour'");
}

test('a rare channel\'s consumer that is far behind is no "ok": check, doctor and status tell of it', async (context) => {
  await farBehind(context);
  const { url, use } = context;
  const db = use(await connect(url));
  const told = async (limits: Parameters<typeof check>[1]) =>
    (await check(db, limits)).causes.map(({ what }) => what);
  assert.deepEqual(await told({}), ["unserved"]);
  assert.deepEqual(await told({ maxLag: "10m" }), ["lag", "unserved"]);
  assert.deepEqual(await told({ maxAge: "10m" }), ["age", "unserved"]);
  assert.deepEqual(await told({ maxUnread: 100_000 }), ["unserved", "uncounted"]);

  const found = async () =>
    (await doctor(db)).filter(({ consumer }) => consumer === "billing")
      .map(({ code, problem }) => `${code}: ${problem}`);
  const [unserved, ...others] = await found();
  assert.match(
    unserved!,
    /^unserved: no worker serves "billing": a backlog that is too long to be counted$/,
  );
  assert.deepEqual(others, []);
  await pause(db, "billing");
  assert.match((await found()).join(), /^paused: "billing" was paused .* with a backlog that is/);
  await resume(db, "billing");

  const { warnings } = await status(db, { warnAfter: "10m" });
  assert.deepEqual(warnings.map(({ consumer }) => consumer), ["billing"]);
  assert.match(await output(["status"], { url }), /^billing +rare +0\+ +6\d min +0 +- /m);
});

test("a backlog is uncounted as soon as counting stopped within the limit, however many were found", async ({ url, use, sql }) => {
  await sql("select hark.register('billing', array['orders'], 'beginning')");
  await sql("select hark.notify('orders') from generate_series(1, 1500)");
  await sql("select setval('hark.log_id_seq', 2000000)");
  await sql("select hark.notify('orders')");
  const db = use(await connect(url));
  const { causes } = await check(db, { maxUnread: 5000 });
  assert.deepEqual(causes.map(({ what }) => what), ["unserved", "uncounted"]);
});

test("what holds back cleanup is told of a consumer that the doctor says nothing else about", async ({ url, use, sql }) => {
  await sql("select hark.register('billing', array['orders'], 'now')");
  await sql("select hark.notify('other')");
  await sql("update hark.log set created_at = now() - interval '8 days'");
  const db = use(await connect(url));
  const codes = (await doctor(db)).filter(({ consumer }) => consumer === "billing")
    .map(({ code }) => code);
  assert.deepEqual(codes, ["holding"]);
});
