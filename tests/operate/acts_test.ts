/** The record of what operators did: it holds up no operator, and no publisher fills it. */

import assert from "node:assert/strict";
import {
  cancelDelayed,
  cleanup,
  connect,
  Consumer,
  notify,
  notifyMany,
  pause,
  resume,
  schedule,
  unschedule,
} from "../../mod.ts";
import { acts } from "../../src/operate/acts.ts";
import { test, within } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";

const delay = 3_600_000;

test("an act in a transaction that stays open holds up no other act, also if the record is full", async (context) => {
  const { url, use, sql } = context;
  const db = use(await connect(url));
  await new Consumer(db, { id: "billing", channels: "c", handle() {} }).drain();
  await sql(
    "insert into hark.acts (act, detail, role, login) select 'old', '', 'o', 'o' from generate_series(1, 10000)",
  );
  const holder = await context.client();
  await holder.query("begin");
  await holder.query("select hark.record_act('cancel', null)");
  assert.equal(await within(pause(db, "billing")), true);
  await holder.query("commit");
  assert.equal(await within(resume(db, "billing")), true);
  await sql("select hark.record_act('last', null)");
  const [{ count }] = await sql("select count(*)::int from hark.acts");
  assert.equal(count, 10_000, "what was skipped goes with the next act");
});

test("a forced cleanup is recorded, once for a run, and one that spares what is unread is not", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  const consumer = new Consumer(db, {
    id: "billing",
    channels: "c",
    from: "beginning",
    handle() {},
  });
  await notify(db, "c", 0);
  await consumer.drain();
  await cleanup(db, { olderThan: 0 });
  assert.deepEqual(await acts(db), []);
  await notifyMany(db, Array.from({ length: 2500 }, (_, n) => ({ channel: "c", payload: n })));
  const { removed } = await cleanup(db, {
    olderThan: 0,
    force: true,
    batch: 1000,
    exact: true,
  });
  assert.equal(removed, 2500);
  const [{ role: me, ...act }, ...rest] = await sql(
    "select act, about, affected::int, detail, role from hark.acts",
  );
  assert.deepEqual([act.act, act.about, act.affected, rest], ["cleanup", null, 2500, []]);
  assert.match(act.detail, /^forced, before 2\d{3}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(await sql("select current_user as me"), [{ me }]);
});

test("what a publisher takes back of its own is no act of an operator", async (context) => {
  const { url, use, sql } = context;
  const own = await role(context);
  await sql("select hark.grant_publish($1)", [own.name]);
  const publisher = use(await connect(own.url));
  const operator = use(await connect(url));
  const cron = { channel: "c" };

  assert(await cancelDelayed(publisher, await notify(publisher, "c", 1, { delay })));
  await schedule(publisher, "nightly", "0 3 * * *", cron);
  assert(await unschedule(publisher, "nightly"));
  await publisher.transaction(async (tx) => {
    await tx.query("select set_config('hark.person', 'ada', true)");
    assert(await cancelDelayed(tx, await notify(tx, "c", 1, { delay })));
  });
  assert.deepEqual(await acts(operator), []);

  assert(await cancelDelayed(operator, await notify(publisher, "c", 2, { delay })));
  await schedule(publisher, "nightly", "0 3 * * *", cron);
  assert(await unschedule(operator, "nightly"));
  await operator.transaction(async (tx) => {
    await tx.query("select set_config('hark.person', 'ada', true)");
    assert(await cancelDelayed(tx, await notify(tx, "c", 3, { delay })));
  });
  assert.deepEqual((await acts(operator)).map(({ what, person }) => [what, person]), [
    ["cancel", "ada"],
    ["unschedule", null],
    ["cancel", null],
  ]);
});
