/** The doctor finds each planted fault, names it with its remedy, and finds nothing else. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type Database,
  doctor,
  type DoctorOptions,
  type Finding,
  notify,
  type Queryable,
  replay,
  schedule,
  setRetention,
  watch,
} from "../../mod.ts";
import { output, ran } from "../cli/_support/hark.ts";
import { ownServer, test, type TestContext, until } from "../harness/mod.ts";
import { visits } from "../dashboard/_support/visit.ts";
import { role } from "../schema/_support/role.ts";

/** What it finds, without the state of the server that tests share: its settings, its sessions. */
async function found(
  db: Queryable,
  { appName }: TestContext,
  options: DoctorOptions = {},
): Promise<Finding[]> {
  return (await doctor(db, options)).filter(({ code, problem }) =>
    !(code === "settings" && /^\w+ is off:/.test(problem)) &&
    !(code === "connections" && !problem.includes(" of 2 ")) &&
    !(code === "long-transaction" && !problem.includes(appName))
  );
}

/** A fault, how it is planted, and what the doctor then says. */
interface Planted {
  readonly fault: string;
  readonly plant: (context: TestContext, db: Database) => Promise<void | Queryable>;
  readonly options?: DoctorOptions;
  readonly level?: Finding["level"];
  readonly code: string;
  readonly problem: RegExp;
  readonly remedy: RegExp;
}

const unread = async ({ sql }: TestContext) => {
  await sql("select hark.register('billing', array['orders'], 'beginning')");
  await sql("select hark.notify('orders')");
};

/** A database whose answers are changed on their way, as by a server that is otherwise. */
function answering(db: Database, change: (row: Record<string, unknown>) => void): Queryable {
  return {
    async query(text, values) {
      const result = await db.query(text, values);
      const [row] = result.rows;
      if (row !== undefined && "frozen" in row) change(row);
      return result;
    },
  };
}

const faults: readonly Planted[] = [
  {
    fault: "a session stays in a transaction",
    async plant(context) {
      const client = await context.client();
      await client.query("begin");
      await client.query("select pg_current_xact_id()");
    },
    options: { longTransaction: 0 },
    code: "long-transaction",
    problem: /^session \d+ \(\w+, .*\) has a transaction open .*idle in transaction/,
    remedy: /pg_terminate_backend\(\d+\)/,
  },
  {
    fault: "a watched table has changed",
    async plant({ sql }, db) {
      await sql("create table users (id integer primary key)");
      await watch(db, "public.users");
      await sql("alter table users disable trigger user");
    },
    code: "drift",
    problem: /the watch "watch" of public\.users has drifted/,
    remedy: /hark watch repair public\.users/,
  },
  {
    fault: "another watch than the usual one has drifted",
    async plant({ sql }, db) {
      await sql(`create table "the users" (id integer primary key)`);
      await watch(db, 'public."the users"', { name: "for audit" });
      await sql(`alter table "the users" disable trigger user`);
    },
    code: "drift",
    problem: /the watch "for audit" of public\."the users" has drifted/,
    remedy: /^hark watch repair 'public\."the users"' --name 'for audit'\.$/,
  },
  {
    fault: "a watched table is gone",
    async plant({ sql }, db) {
      await sql("create table users (id integer primary key)");
      await watch(db, "public.users");
      await sql("drop table users");
    },
    code: "drift",
    problem: /the watch "watch" of public\.users has drifted/,
    remedy: /^hark watch remove public\.users\.$/,
  },
  {
    fault: "no worker applies the retention",
    async plant({ sql }, db) {
      await setRetention(db, "30d");
      await sql("update hark.retention set set_at = now() - interval '1 hour'");
    },
    code: "retention",
    problem: /no worker applies the retention of all channels: never so far/,
    remedy: /hark cleanup/,
  },
  {
    fault: "nothing is ever removed",
    async plant({ sql }) {
      await sql(
        "insert into hark.log (channel, payload, created_at) values ('c', '1', '2020-01-01')",
      );
    },
    code: "retention",
    problem: /nothing is ever removed from the log: its oldest notification is .* old/,
    remedy: /hark retention set 30d.*hark retention set forever/,
  },
  {
    fault: "no worker serves a consumer",
    plant: unread,
    code: "unserved",
    problem: /^no worker serves "billing": 1 unread$/,
    remedy: /hark consumers remove billing/,
  },
  {
    fault: "no worker makes a replay",
    async plant({ sql }, db) {
      await sql("select hark.notify('orders')");
      await sql("select hark.register('billing', array['orders'], 'now')");
      await replay(db, "billing", { from: 1 });
    },
    code: "unserved",
    problem: /^no worker serves "billing": 1 replay to make$/,
    remedy: /Start a worker/,
  },
  {
    fault: "a consumer was paused and forgotten",
    async plant(context) {
      await unread(context);
      await context.sql("select hark.pause('billing')");
    },
    code: "paused",
    problem: /"billing" was paused .* ago, with 1 unread/,
    remedy: /hark resume billing/,
  },
  {
    fault: "a partition is held up",
    async plant({ sql, client }) {
      // The worker's session, by which others see that it lives.
      await (await client()).query("select pg_advisory_lock(42)");
      await sql("select hark.register('billing', array['orders'], 'now')");
      await sql(
        "insert into hark.waiting (consumer, id, partition, state, attempts) values ('billing', 7, 0, 'failed', 3)",
      );
      await sql(`with p as (insert into hark.processes (id, session, lease_until)
          values (gen_random_uuid(), 42, now() + interval '5 minutes') returning id)
        insert into hark.workers (consumer, owner, process) select 'billing', p.id, p.id from p`);
      await sql(
        "update hark.partitions set halted = 'blocked', owner = (select owner from hark.workers)",
      );
    },
    code: "held-up",
    problem: /partition 0 of "billing" is held up \(blocked\) by notification 7/,
    remedy: /hark discard billing 7/,
  },
  {
    fault: "a worker only polls",
    async plant({ sql }) {
      await sql("select hark.register('billing', array['orders'], 'now')");
      await sql(`with p as (insert into hark.processes (id, name, lease_until)
          values (gen_random_uuid(), 'web-3:4711', now() + interval '5 minutes') returning id)
        insert into hark.workers (consumer, owner, process, joined_at)
        select 'billing', p.id, p.id, now() - interval '2 minutes' from p`);
    },
    code: "polling",
    problem: /worker web-3:4711 of "billing" is not woken/,
    remedy: /directly to the server/,
  },
  {
    fault: "no worker delivers what is due",
    async plant({ sql }) {
      await sql("select hark.notify_at('c', deliver_at => now() - interval '1 hour')");
    },
    code: "delayed",
    problem: /^1 delayed, and the first has been due for/,
    remedy: /Run a worker/,
  },
  {
    fault: "no worker publishes what is scheduled",
    async plant({ sql }, db) {
      await schedule(db, "nightly", "0 3 * * *", { channel: "c" });
      await sql("update hark.schedules set next_at = now() - interval '1 hour'");
    },
    code: "schedules",
    problem: /^a schedule has been due for .*: no worker publishes it$/,
    remedy: /Run a worker/,
  },
  {
    fault: "a consumer has dead letters",
    async plant({ sql }) {
      await sql("select hark.register('bill ing', array['orders'], 'now')");
      await sql(`insert into hark.dead (consumer, id, channel, created_at, attempts, error, died_at)
        values ('bill ing', 1, 'orders', now(), 3, 'no', now())`);
    },
    code: "dead",
    problem: /^"bill ing" has 1 dead letter$/,
    remedy: /hark dead list 'bill ing'.*hark retry 'bill ing' --all/,
  },
  {
    fault: "a consumer has more dead letters than are counted",
    async plant({ sql }) {
      await sql("select hark.register('billing', array['orders'], 'now')");
      await sql(`insert into hark.dead (consumer, id, attempts)
        select 'billing', n, 1 from generate_series(1, 100001) n`);
    },
    code: "dead",
    problem: /^"billing" has 100,000 or more dead letters$/,
    remedy: /hark dead list billing/,
  },
  {
    fault: "an inbox has dead letters",
    async plant({ sql }) {
      await sql(
        "select hark.inbox_place('shop-in', 'stream', 0), hark.inbox_place('fine', 'stream', 0)",
      );
      const letter = { sequence: 5, subject: "s", body: "eA==", reason: "no JSON" };
      await sql("select hark.inbox_take('shop-in', 'stream', 0, 5, $1)", [
        JSON.stringify([letter]),
      ]);
    },
    code: "inbox",
    problem: /^the inbox "shop-in" could not publish 1 of the messages that it took$/,
    remedy: /hark inbox shop-in --dead/,
  },
  {
    fault: "a role lacks a part of its rights",
    async plant(context) {
      const { name } = await role(context);
      await context.sql("select hark.grant_consume($1)", [name]);
      await context.sql(`revoke execute on function hark.claim from ${name}`);
    },
    level: "error",
    code: "rights",
    problem: /^role ".*" may consume, but lacks claim$/,
    remedy: /hark\.grant_consume\('.*'\)/,
  },
  {
    fault: "a role may not use the schema",
    async plant(context) {
      return context.use(await connect((await role(context)).url));
    },
    level: "error",
    code: "rights",
    problem: /^role ".*": permission denied/,
    remedy: /hark\.grant_/,
  },
  {
    fault: "the schema is of an older version",
    async plant({ sql }) {
      await sql("update hark.schema_version set version = '0.0.1'");
    },
    level: "error",
    code: "schema",
    problem: /has version 0\.0\.1, but this program needs/,
    remedy: /hark init/,
  },
  {
    fault: "the schema has other functions than the program",
    async plant({ sql }) {
      await sql("update hark.schema_version set functions = 'another'");
    },
    code: "schema",
    problem: /functions are not those of this program/,
    remedy: /hark init/,
  },
  {
    fault: "autovacuum is off for a table",
    async plant({ sql }) {
      await sql("alter table hark.partitions set (autovacuum_enabled = off)");
    },
    code: "settings",
    problem: /autovacuum is off for hark\.partitions/,
    remedy: /reset \(autovacuum_enabled\)/,
  },
  {
    fault: "nearly all connections are taken",
    async plant({ sql, database }) {
      await sql(`alter database ${database} connection limit 2`);
    },
    code: "connections",
    problem: /of 2 connections are open/,
    remedy: /poolSize/,
  },
  {
    fault: "the log is too large",
    async plant({ sql }, db) {
      await setRetention(db, "forever");
      await sql(`insert into hark.log (channel, payload, created_at)
        select 'c', to_jsonb(repeat('x', 1000)), now() - interval '2 days' from generate_series(1, 5000)`);
    },
    options: { maxLogBytes: 100_000 },
    code: "size",
    problem:
      /the log takes [1-9] MB for about 5,000 notifications, and has grown by about [1-9] MB a day/,
    remedy: /hark retention/,
  },
  {
    fault: "a transaction pooler swallows LISTEN",
    // deno-lint-ignore require-await -- as the others
    async plant(_context, db) {
      const key = Symbol.for("@hark/postgres:connections:1");
      type Own = Record<"session" | "listenSession", () => Promise<Queryable>>;
      const own = (db as never as Record<symbol, Own>)[key]!;
      return Object.assign(
        { query: (text: string, values?: unknown[]) => db.query(text, values) },
        {
          [key]: {
            letsListen: true,
            session: () => own.session(),
            async listenSession() {
              const session = await own.listenSession();
              const query = session.query.bind(session);
              // LISTEN succeeds on a server connection that the next statement does not get.
              session.query = (text, values) =>
                query(/^listen/.test(text) ? "select 1" : text, values);
              return session;
            },
          },
        },
      );
    },
    level: "error",
    code: "pooler",
    problem: /LISTEN receives nothing/,
    remedy: /session mode/,
  },
  {
    fault: "the clocks differ",
    // deno-lint-ignore require-await -- as the others
    plant: async (_context, db) => answering(db, (row) => row.now = Number(row.now) + 90_000),
    code: "clock",
    // 90 s, less what the answer took to come.
    problem: /clock is [89]\d s ahead/,
    remedy: /NTP/,
  },
  {
    fault: "the queue of NOTIFY fills",
    // deno-lint-ignore require-await -- as the others
    plant: async (_context, db) => answering(db, (row) => row.queue = 0.5),
    code: "notify-queue",
    problem: /50 % full/,
    remedy: /pg_stat_activity/,
  },
  {
    fault: "transaction numbers run out",
    // deno-lint-ignore require-await -- as the others
    plant: async (_context, db) => answering(db, (row) => row.frozen = 1_900_000_000),
    code: "wraparound",
    problem: /1,900,000,000 old/,
    remedy: /vacuum/,
  },
];

for (const { fault, plant, options, level = "warning", code, problem, remedy } of faults) {
  test(`the doctor finds it if ${fault}`, async (context) => {
    const db = context.use(await connect(context.url));
    assert.deepEqual(await found(db, context), []);
    const looksAt = await plant(context, db) ?? db;
    const findings = (await found(looksAt, context, options)).filter(({ level }) =>
      level !== "note"
    );
    assert.equal(findings.length, 1, JSON.stringify(findings));
    const [finding] = findings;
    assert.deepEqual([finding!.level, finding!.code], [level, code]);
    assert.match(finding!.problem, problem);
    assert.match(finding!.remedy, remedy);
  });
}

Deno.test("the doctor finds what a server keeps for others, and settings that endanger data", async () => {
  await using server = await ownServer({
    settings: {
      max_prepared_transactions: "5",
      autovacuum: "off",
      full_page_writes: "off",
      fsync: "off",
    },
  });
  const client = await server.client();
  await client.query("begin");
  await client.query("select hark.notify('c')");
  await client.query("prepare transaction 'forgotten'");
  await server.sql("select pg_create_physical_replication_slot('old_standby', true)");
  await using db = await connect(server.url);
  const findings = await doctor(db, { longTransaction: 0 });
  assert.deepEqual(findings.map(({ code, level }) => `${level} ${code}`), [
    "warning settings",
    "warning settings",
    "warning settings",
    "warning prepared",
    "warning replication-slot",
  ]);
  const text = JSON.stringify(findings);
  for (const part of ["autovacuum is off", "fsync is off", "full_page_writes is off"]) {
    assert(text.includes(part), part);
  }
  assert.match(text, /rollback prepared 'forgotten'/);
  assert.match(text, /pg_drop_replication_slot\('old_standby'\)/);
  await server.sql("rollback prepared 'forgotten'");
});

Deno.test("the doctor says nothing of a set-up that is as it should be", async () => {
  await using server = await ownServer({
    settings: { fsync: "on", full_page_writes: "on", autovacuum: "on" },
  });
  await using db = await connect(server.url);
  await db.query("create table users (id integer primary key)");
  await watch(db, "public.users");
  await setRetention(db, "30d");
  let handled = 0;
  const consumer = new Consumer(db, { id: "r", channels: "orders", handle: () => void handled++ });
  const running = consumer.run();
  await consumer.ready;
  await notify(db, "orders");
  await notify(db, "orders", {}, { delay: "1h" });
  await until(() => handled === 1, { what: "the notification to be handled" });
  assert.deepEqual(await doctor(db), []);
  assert.equal(await output(["doctor"], { url: server.url }), "nothing is wrong\n");
  await consumer.stop();
  await running;
});

test("hark doctor writes each finding with its remedy, and exits with 1; notes alone are no fault", async (context) => {
  await unread(context);
  const done = await ran(["doctor"], { url: context.url });
  assert.equal(done.code, 1);
  assert.match(
    done.stdout,
    /^warning \(unserved\): no worker serves "billing": 1 unread\n {2}Start a worker/m,
  );
  const operator = await role(context);
  await context.sql("select hark.grant_operate($1)", [operator.name]);
  const json = JSON.parse((await ran(["doctor", "--json"], { url: operator.url })).stdout);
  const note = json.find(({ level }: Finding) => level === "note");
  assert.match(note.problem, /does not see what other roles' sessions do/);
  assert.match(note.remedy, /grant pg_read_all_stats to /);
  const publisher = await role(context);
  await context.sql("select hark.grant_publish($1)", [publisher.name]);
  const notes = JSON.parse((await ran(["doctor", "--json"], { url: publisher.url })).stdout);
  const own = notes.filter(({ code }: Finding) => code !== "settings");
  assert.deepEqual(own.map(({ level, code }: Finding) => `${level} ${code}`), [
    "note consumers",
    "note sessions",
  ]);
});

test("the doctor refuses options that it does not know", async ({ url, use }) => {
  const db = use(await connect(url));
  await assert.rejects(doctor(db, { longTransactions: 1 } as never), { code: "BAD_OPTION" });
  await assert.rejects(doctor(db, { maxLogBytes: 0 }), { code: "BAD_OPTION" });
  await assert.rejects(doctor("postgres://" as never), { code: "BAD_OPTION" });
});

test("a drain that runs is no worker that is not woken", async (context) => {
  const { url, use } = context;
  const db = use(await connect(url));
  await notify(db, "orders");
  const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const drained = new Consumer(db, {
    id: "billing",
    channels: "orders",
    from: "beginning",
    async handle() {
      begun.resolve();
      await gate.promise;
    },
  }).drain();
  await begun.promise;
  const [{ listening }] = await context.sql("select listening from hark.workers_of('billing')");
  assert.equal(listening, false);
  assert.deepEqual((await found(db, context)).filter(({ code }) => code === "polling"), []);
  gate.resolve();
  await drained;
});

test("where LISTEN is turned off, the doctor says that it was not tried, and tells of no pooler", async (context) => {
  const url = new URL(context.url);
  url.searchParams.set("listen", "off");
  const told = (await doctor(context.use(await connect(url.href))))
    .filter(({ code }) => code === "pooler");
  assert.deepEqual(told, [{
    level: "note",
    code: "pooler",
    problem: "whether LISTEN works was not tried",
    remedy: "Give what connect() returns. With listen=off in the URL, workers only poll.",
  }]);
});

test("with no connection free to try LISTEN, the doctor tells so, and the dashboard shows its pages", async (context) => {
  const { url, name } = await role(context);
  await context.sql("select hark.grant_operate($1)", [name]);
  await context.sql(`alter role ${name} connection limit 2`);
  const db = context.use(await connect(url));
  const told = await doctor(db);
  const { level, problem } = told.find(({ code }) => code === "pooler")!;
  assert.equal(level, "warning");
  assert.match(problem, /LISTEN could not be tried: .*too many connections/);
  const { get } = visits(db, { authorize: () => ({ name: "ada", role: "operate" }) });
  const { status, text } = await get("/");
  assert.equal(status, 200);
  assert.match(text, /LISTEN could not be tried/);
});
