/** The row that says who sleeps: when it is there, when publishers act on it, and who clears it away. */

import assert from "node:assert/strict";
import { connect, pause, resume } from "../../mod.ts";
import { NEVER_POLL, publish, Reading, Running } from "../faults/_support/running.ts";
import { ownServer, patient, spawnDeno, test, until, withDatabaseName } from "../harness/mod.ts";
import { type Lab, replaceIn, type Staging, stagings } from "../windows/_support/staging.ts";
import { asleep, Ears, RARELY } from "./_support/sleeping.ts";

const me = "00000000-0000-0000-0000-000000000001";

test("a publisher sends NOTIFY for a sleeper, and not without one or for one that has expired", async (context) => {
  const { sql } = context;
  const ears = await Ears.open(await context.client());
  const heard = async () => (await ears.soFar()).splice(0);
  const many = `select hark.notify_many('[{"channel": "c"}, {"channel": "d"}, {"channel": "d"}]')`;
  await sql("select hark.notify('c')");
  await sql(many);
  assert.deepEqual(await heard(), []);
  await sql("select hark.sleep($1, array['d', 'e'], null, 60000)", [me]);
  await sql("select hark.notify('c'), hark.notify('d')");
  await sql(many);
  await sql("select hark.wake('e')");
  await sql("select hark.wake('f')");
  assert.deepEqual(await heard(), ["d", "d", "e"]);
  await assert.rejects(sql("select hark.sleep($1, null, null, 60000)", [me]), { code: "HK006" });
  await sql("begin; set local hark.wake = off; select hark.notify('c'), hark.wake('d'); commit");
  assert.deepEqual(await heard(), []);
  await sql("update hark.sleepers set until = clock_timestamp()");
  await sql("select hark.notify('c'), hark.notify('d')");
  await sql(many);
  assert.deepEqual(await heard(), []);
});

test("hark.sleep says whether it was asleep all the time, and clears away who has gone", async (context) => {
  const { sql } = context;
  const sleep = async () =>
    (await sql("select hark.sleep($1, array['c', 'd', 'c'], 7, 60000) as covered", [me]))[0]
      .covered;
  const rows = async () =>
    (await sql("select sleeper::text || ' ' || channel as row from hark.sleepers order by 1")).map((
      { row },
    ) => row);
  assert.equal(await sleep(), false);
  assert.equal(await sleep(), true);
  await sql("update hark.sleepers set until = clock_timestamp() where channel = 'd'");
  assert.equal(await sleep(), false);
  assert.equal(await sleep(), true);
  const others = [2, 3, 4].map((n) => `00000000-0000-0000-0000-00000000000${n}`);
  const holder = await context.client();
  await holder.query("select pg_advisory_lock(8)");
  await sql("select hark.sleep($1, array['c'], 8, 60000)", [others[0]]); // its session lives
  await sql("select hark.sleep($1, array['c'], 9, 60000)", [others[1]]); // its session has ended
  await sql("select hark.sleep($1, array['c'], null, 0)", [others[2]]); // it has expired
  assert.equal(
    await sleep(),
    false,
    "session 7 does not exist, so the others have cleared this one away",
  );
  assert.deepEqual(await rows(), [`${me} c`, `${me} d`, `${others[0]} c`]);
  await sql("select hark.wake_up($1)", [me]);
  assert.deepEqual(await rows(), [`${others[0]} c`]);
});

test("an open transaction that has not published keeps no reader looking", async (context) => {
  const [reading, writing] = [await context.client(), await context.client()];
  await reading.query("begin; select pg_current_xact_id(); select count(*) from hark.log");
  await writing.query("begin; select hark.notify('c')");
  const [{ xid }] = (await writing.query("select pg_current_xact_id()::text as xid")).rows;
  const publishers = async (among: string | null) =>
    (await context.sql("select hark.publishers($1::text::xid[])::text as p", [among]))[0].p;
  assert.equal(await publishers(null), `{${xid}}`);
  assert.equal(await publishers(`{${xid}}`), `{${xid}}`);
  await writing.query("commit");
  assert.equal(await publishers(`{${xid}}`), "{}");
});

test("nor does one that was prepared in another database, and is left there", {
  schema: false,
}, async () => {
  await using server = await ownServer({ settings: { max_prepared_transactions: "2" } });
  const writing = await server.client();
  const publishers = async () => (await server.sql("select hark.publishers()::text as p"))[0].p;
  await writing.query("begin; set local hark.wake = off; select hark.notify('c')");
  const [{ xid }] = (await writing.query("select pg_current_xact_id()::text as xid")).rows;
  await writing.query("prepare transaction 'here'");
  await server.sql("create database elsewhere");
  const elsewhere = await server.client(withDatabaseName(server.url, "elsewhere"));
  await elsewhere.query("begin; create table t (); prepare transaction 'there'");
  assert.equal(await publishers(), `{${xid}}`);
  await writing.query("commit prepared 'here'");
  assert.equal(await publishers(), "{}");
});

test("workers and subscriptions sleep, one on all channels looks: all are told, again and again", async (context) => {
  const db = context.use(await connect(context.url));
  const another = context.use(await connect(context.url));
  const options = { pollInterval: RARELY, from: "now" } as const;
  const consumers = ["a", "b", "c"].map((id) => context.use(new Running(db, { ...options, id })));
  const shared = [db, another].map((on) =>
    context.use(new Running(on, { ...options, id: "shared", partitions: 2 }))
  );
  const readers = ["c", null].map((on) => context.use(new Reading(another, on, options)));
  await asleep(context, 6);
  await until(
    async () => {
      const rows = await context.sql(
        "select from hark.partitions p where p.consumer = 'shared' and p.owner is not null",
      );
      return rows.length === 2;
    },
  );
  for (let n = 1; n <= 15; n++) {
    await publish(context, n, n);
    await Promise.all([
      ...consumers.map((one) => one.atLeast(n)),
      ...readers.map((one) => one.inbox.atLeast(n)),
    ]);
    await until(() => shared[0]!.payloads.length + shared[1]!.payloads.length === n);
  }
  for (const running of [...consumers, ...shared]) await running.stop();
  await asleep(context, 1); // the subscription
});

test("one that is killed in its sleep costs its channel for a while only: the next sleeper clears it away", async (context) => {
  const config = JSON.stringify({ options: { pollInterval: RARELY } });
  await using child = spawnDeno(["tests/faults/_support/worker.ts", context.url, config]);
  await asleep(context);
  child.kill("SIGKILL");
  await child.ended();
  const [id] = await publish(context, 1, 1);
  assert(id! > 0, "a publisher is not hindered");
  const [{ ms }] = await context.sql(
    "select extract(epoch from until - clock_timestamp()) * 1000 as ms from hark.sleepers",
  );
  assert(ms > 0 && ms <= 120_000, "it expires");
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: RARELY, lease: 5000 }));
  await running.atLeast(1);
  await asleep(context, 1);
  await publish(context, 2, 2);
  await running.atLeast(2);
});

test("one that is paused sleeps on nothing, and is woken again once it is resumed", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await asleep(context);
  await pause(db, "c");
  await asleep(context, 0);
  await publish(context, 1, 1);
  await resume(db, "c");
  await running.atLeast(1);
  await asleep(context);
  await publish(context, 2, 2);
  await running.atLeast(2);
});

test("what was delayed wakes when it is delivered", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(
    new Running(db, { pollInterval: NEVER_POLL, id: "a", channels: "c" }),
  );
  const other = context.use(
    new Running(db, { pollInterval: NEVER_POLL, id: "b", channels: ["c", "d"] }),
  );
  await asleep(context, 2);
  await context.sql(
    "select hark.notify_at('c', '1', deliver_at => clock_timestamp() + interval '200 ms')",
  );
  await running.atLeast(1);
  await other.atLeast(1);
});

const renewed: Staging = {
  promise:
    "a row that is renewed while a publisher is under way wakes, past the time that the publisher sees in it",
  breaks: [{
    rule: "by the clock of the moment",
    in: "hark.wake_one",
    from: "s.until operator(pg_catalog.>) pg_catalog.statement_timestamp()",
    to: "s.until operator(pg_catalog.>) pg_catalog.clock_timestamp()",
  }],
  stage: async (lab: Lab) => {
    await replaceIn(lab.url, {
      rule: "",
      in: "hark.wake_one",
      from: "where s.channel",
      to: "where pg_advisory_xact_lock_shared(77) is not null and s.channel",
    });
    const ears = await Ears.open(await lab.client());
    const valid = patient(2500); // the publisher has to begin within that time
    await lab.sql("select hark.sleep($1, array['c'], null, $2)", [me, valid]);
    await lab.held(lab.gate, () => lab.sql("select hark.notify('c')"), async () => {
      const [{ covered }] = await lab.sql(
        "select hark.sleep($1, array['c'], null, 60000) as covered",
        [me],
      );
      assert(covered);
      await lab.sql("select pg_sleep($1)", [valid / 1000 + 0.1]); // what it saw expires
    });
    assert.deepEqual(await ears.soFar(), ["c"]);
  },
};
stagings("a row is renewed in time", [renewed]);
