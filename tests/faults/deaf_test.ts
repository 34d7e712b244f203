import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";
import { asleep } from "../waking/_support/sleeping.ts";
import { Line } from "./_support/line.ts";
import { said, sentence } from "./_support/logs.ts";
import {
  listenBackends,
  NEVER_POLL,
  numbers,
  publish,
  Reading,
  Running,
} from "./_support/running.ts";

/** Has the session of the next heartbeat run statements, once. */
async function atHeartbeat({ sql }: TestContext, statements: string): Promise<void> {
  // A heartbeat asks this function.
  await sql(`
    create sequence called;
    create or replace function hark.retention_due() returns boolean language plpgsql as $$
    begin
      if nextval('public.called') = 1 then ${statements}; end if;
      return false;
    end $$`);
  await until(async () => (await sql("select is_called from called"))[0].is_called);
}

const port = (url: string) => Number(new URL(url).port || 5432);

test("where LISTEN hears nothing this is said loudly, and polling delivers", async (context) => {
  const since = Date.now();
  const line = context.use(new Line(port(context.url)));
  line.deaf = true;
  const db = context.use(
    await connect(line.through(context.url), { heartbeatTimeout: patient(800) }),
  );
  const running = context.use(new Running(db, { pollInterval: 50 }));
  const reading = context.use(new Reading(db, "c", { from: "beginning", pollInterval: 50 }));
  const record = await said("error", /LISTEN succeeded/, since);
  assert.match(sentence(record), /transaction pooler/);
  assert.match(sentence(record), /Connect directly/);
  await publish(context, 1, 10);
  await running.atLeast(10);
  await reading.inbox.atLeast(10);
  assert.deepEqual(running.payloads, numbers(1, 10));
  const [row] = await context.sql("select session from hark.processes");
  assert.equal(row.session, null, "a deaf session proves nothing about its owner");
});

test("a line that becomes deaf is found out when LISTEN is made again", async (context) => {
  const line = context.use(new Line(port(context.url)));
  const db = context.use(
    await connect(line.through(context.url), { heartbeat: 200, heartbeatTimeout: patient(800) }),
  );
  const running = context.use(new Running(db, { pollInterval: 200 }));
  await publish(context, 1, 1);
  await running.atLeast(1);
  const since = Date.now();
  line.deaf = true;
  line.sever();
  await said("error", /LISTEN succeeded/, since);
  await publish(context, 2, 3);
  await running.atLeast(3);
  assert.deepEqual(running.payloads, [1, 2, 3]);
});

test("a session that no longer listens is found out by the next heartbeat", async (context) => {
  const db = context.use(await connect(context.url, { heartbeat: 3_600_000 }));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL, lease: 400 }));
  await publish(context, 1, 1);
  await running.atLeast(1);
  await atHeartbeat(context, "execute 'unlisten *'");
  await publish(context, 2, 2);
  await running.atLeast(2);
});

test("a session that was reset is replaced: its lock says that the process lives", async (context) => {
  const db = context.use(await connect(context.url, { heartbeat: 3_600_000 }));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL, lease: 400 }));
  await publish(context, 1, 1);
  await running.atLeast(1);
  // As DISCARD ALL does, which poolers send.
  await atHeartbeat(context, "execute 'unlisten *'; perform pg_catalog.pg_advisory_unlock_all()");
  await until(async () => {
    const held = await context.sql(
      `select from hark.processes p join pg_locks l
         on (l.classid::bigint << 32) | l.objid::bigint = p.session
       where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted`,
    );
    return held.length === 1;
  }, { deadline: 10_000, what: "the process to hold its lock again" });
  await publish(context, 2, 2);
  await running.atLeast(2);
});

test("connect({ listen: false }) polls, and opens no LISTEN session", async (context) => {
  const db = context.use(await connect(context.url, { listen: false }));
  const running = context.use(new Running(db, { pollInterval: 30 }));
  await publish(context, 1, 5);
  await running.atLeast(5);
  assert.deepEqual(await listenBackends(context), []);
});

test("published without NOTIFY (hark.wake = off): found by polling", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: 100 }));
  await publish(context, 1, 1);
  await running.atLeast(1);
  const client = await context.client();
  const heard: string[] = [];
  const ears = await context.client();
  ears.on("notification", (message) => heard.push(message.payload ?? ""));
  await ears.query("listen hark");
  await client.query("begin");
  await client.query("set local hark.wake = off");
  await client.query("select hark.notify('c', '2')");
  await client.query('select hark.notify_many(\'[{"channel":"c","payload":3}]\')');
  await client.query("commit");
  await running.atLeast(3);
  await asleep(context);
  await publish(context, 4, 4);
  await running.atLeast(4);
  await ears.query("select 1");
  assert.deepEqual(heard, ["c"], "only the last one notified");
  assert.deepEqual(running.payloads, [1, 2, 3, 4]);
});

test("two-phase commit: a transaction prepared with hark.wake = off is delivered", async (context) => {
  const [{ max }] = await context.sql(
    "select current_setting('max_prepared_transactions')::int as max",
  );
  const db = context.use(await connect(context.url));
  const client = await context.client();
  await client.query("begin");
  await client.query("set local hark.wake = off");
  await client.query("select hark.notify('c', '1')");
  const prepare = client.query(`prepare transaction '${context.database}'`);
  if (max === 0) {
    await assert.rejects(prepare, { code: "55000" }, "this server allows none");
    return;
  }
  await prepare;
  const drain = () => new Consumer(db, { id: "d", channels: "c", handle() {} }).drain();
  assert.equal(await drain(), 0);
  await client.query(`commit prepared '${context.database}'`);
  assert.equal(await drain(), 1);
});
