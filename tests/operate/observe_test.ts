/** The right to look only: what such a role sees, and that it changes nothing. */

import assert from "node:assert/strict";
import {
  cleanup,
  connect,
  Consumer,
  consumerDetails,
  consumers,
  deadLetters,
  delayedNotifications,
  deleteNotifications,
  deletions,
  discard,
  doctor,
  logChannels,
  notification,
  notifications,
  notify,
  pause,
  type Queryable,
  removeConsumer,
  replay,
  replayIds,
  resume,
  retry,
  schedule,
  schedules,
  seek,
  setPartitions,
  setRetention,
  status,
  subscribe,
  unschedule,
} from "../../mod.ts";
import { dashboard } from "../../src/dashboard/mod.ts";
import { monitor } from "../../src/metrics/mod.ts";
import { acts } from "../../src/operate/acts.ts";
import { allWorkers } from "../../src/operate/workers.ts";
import { test, type TestContext } from "../harness/mod.ts";
import { visits } from "../dashboard/_support/visit.ts";
import { role } from "../schema/_support/role.ts";

const secret = "Lovelace lives in Bern";
const refused = { name: "HarkError", code: "NO_PERMISSION" };

/** A database with a secret in each place that keeps a payload, and a role that may observe it. */
async function scene(context: TestContext) {
  const owner = context.use(await connect(context.url));
  const published = await notify(owner, "people", { secret }, {
    key: "ada",
    headers: { note: secret },
  });
  await notify(owner, "people", { secret }, { delay: "2h", headers: { note: secret } });
  await schedule(owner, "daily", "0 6 * * *", { channel: "people", payload: { secret } });
  const consumer = new Consumer(owner, {
    id: "mail",
    channels: "people",
    from: "beginning",
    maxAttempts: 1,
    handle() {
      throw new Error("no such mailbox");
    },
  });
  await consumer.drain();
  assert.equal((await deadLetters(owner)).length, 1);
  await context.sql(
    `select hark.inbox_place('in', 'a stream', 0);`,
  );
  await context.sql(
    `select hark.inbox_take('in', 'a stream', 0, 5, json_build_array(json_build_object('sequence', 5,
      'subject', 'people', 'headers', json_build_object('note', $1::text), 'reason', 'no channel',
      'body', translate(encode(convert_to($1, 'UTF8'), 'base64'), E'\\n', ''))))`,
    [secret],
  );
  const { name, url } = await role(context);
  await context.sql("select hark.grant_observe($1)", [name]);
  const db = context.use(await connect(url));
  return { owner, db, name, published };
}

test("a role that may observe sees consumers, the log, dead letters and what is to come, without payloads and headers", async (context) => {
  const { db, owner, published } = await scene(context);
  const [one] = (await status(db)).consumers;
  assert.deepEqual([one!.consumer, one!.dead, one!.handled], ["mail", 1, 0]);
  const { notifications: [logged] } = await notifications(db, { channels: "people", key: "ada" });
  assert.deepEqual([logged!.id, logged!.key, logged!.payload, logged!.headers], [
    published,
    "ada",
    null,
    {},
  ]);
  assert.match(logged!.problem!, /may only observe/);
  assert.ok(logged!.bytes > 20);
  const found = await notification(db, published);
  assert.deepEqual(found!.consumers.map(({ consumer, verdict }) => [consumer, verdict]), [
    ["mail", "dead"],
  ]);
  const [dead] = await deadLetters(db);
  assert.deepEqual([dead!.id, dead!.error, dead!.payload, dead!.headers], [
    published,
    "no such mailbox",
    null,
    {},
  ]);
  const [delayed] = await delayedNotifications(db);
  assert.deepEqual([delayed!.channel, delayed!.payload], ["people", null]);
  const [daily] = await schedules(db);
  assert.deepEqual([daily!.name, daily!.payload], ["daily", null]);
  const all = [
    await consumers(db),
    await consumerDetails(db, "mail"),
    await allWorkers(db, ["mail"]),
    await logChannels(db),
    await deletions(db),
    await acts(db),
    await doctor(db),
    logged,
    found,
    dead,
    delayed,
    daily,
  ];
  assert.doesNotMatch(JSON.stringify(all), /Lovelace/);
  // The same calls tell their owner what they hide.
  assert.match(JSON.stringify(await notification(owner, published)), /Lovelace/);
  assert.match(JSON.stringify(await deadLetters(owner)), /Lovelace/);
  assert.match(JSON.stringify(await delayedNotifications(owner)), /Lovelace/);
  assert.match(JSON.stringify(await schedules(owner)), /Lovelace/);
});

test("a role that may observe cannot guess a payload by choosing notifications by it", async (context) => {
  const { db } = await scene(context);
  for (const filter of [{ search: "Lovelace" }, { contains: { secret } }]) {
    await assert.rejects(notifications(db, filter), {
      ...refused,
      message: /may only observe.*Leave out contains and search/s,
    });
  }
});

const acting: ((db: Queryable, id: number) => Promise<unknown>)[] = [
  (db) => notify(db, "people"),
  (db) => pause(db, "mail"),
  (db) => resume(db, "mail"),
  (db) => seek(db, "mail", "beginning"),
  (db) => replay(db, "mail", { from: 1 }),
  (db, id) => replayIds(db, [id]),
  (db) => retry(db, "mail", { all: true }),
  (db) => discard(db, "mail", { all: true }),
  (db) => setPartitions(db, "mail", 2),
  (db) => setRetention(db, "30d"),
  (db) => cleanup(db, { olderThan: "1d" }),
  (db, id) => deleteNotifications(db, [id], { reason: "a test" }),
  (db) => unschedule(db, "daily"),
  (db) => removeConsumer(db, "mail"),
  (db) => subscribe(db, null, { from: "beginning", follow: false }).next(),
];

test("a role that may observe does no act, by a call or by SQL of its own", async (context) => {
  const { db, name, published } = await scene(context);
  for (const act of acting) await assert.rejects(act(db, published), refused, String(act));
  const granted = await context.sql(
    `select p.proname as name, (
        select coalesce(json_agg(t.typname order by a.place), '[]') from unnest(p.proargtypes) with ordinality a (type, place)
        join pg_type t on t.oid = a.type where a.place <= p.pronargs - p.pronargdefaults
      ) as needed
    from pg_proc p
    where p.pronamespace = 'hark'::regnamespace and has_function_privilege($1, p.oid, 'execute') order by 1`,
    [name],
  );
  const names = granted.map((one) => one.name);
  assert.ok(names.includes("status") && names.includes("measure"));
  const values: Record<string, string> = { text: "'mail'", int8: String(published), int4: "10" };
  const told: unknown[] = [];
  for (const { name: called, needed } of granted) {
    // Each runs in a transaction that cannot write. hark.measure stores which process reports.
    if (called === "measure") continue;
    const args = called === "inbox_dead_in_outline"
      ? "'in', 0, 10"
      : needed.map((type: string) => values[type]).join();
    const { rows } = await db.transaction(async (tx) => {
      await tx.query("set transaction read only");
      return await tx.query(`select to_jsonb(x)::text as x from hark.${called}(${args}) x`);
    });
    told.push(rows);
  }
  assert.doesNotMatch(JSON.stringify(told), /Lovelace/);
  for (
    const statement of [
      "select * from hark.log",
      "select * from hark.dead",
      "select * from hark.inbox_dead",
      "insert into hark.log (channel, payload) values ('c', '1')",
      "update hark.consumers set paused_at = now()",
      "delete from hark.dead",
      "select * from hark.notifications_in_full()",
      `select * from hark.notification_in_full(${published})`,
      "select * from hark.dead_in_full()",
      "select * from hark.delayed_in_full()",
      "select * from hark.schedules_in_full()",
      "select * from hark.inbox_dead_letters('in', 0, 10)",
      "select hark.inbox_settle('in', 5)",
      "select hark.retry('mail')",
      "select hark.contents('1', '1')",
      "select hark.grant_operate(current_user)",
    ]
  ) {
    await assert.rejects(db.query(statement), refused, statement);
  }
  const after = await context.sql(
    "select (select count(*)::int from hark.log) as log, (select count(*)::int from hark.dead) as dead",
  );
  assert.deepEqual(after, [{ log: 1, dead: 1 }]);
});

test("a function of an operator that runs with the operator's rights sees contents, also if the caller may only observe", async (context) => {
  const { db, name, published } = await scene(context);
  const operator = await role(context);
  await context.sql("select hark.grant_operate($1)", [operator.name]);
  await context.sql("create schema help");
  await context.sql(`grant create, usage on schema help to ${operator.name}, ${name}`);
  const operating = context.use(await connect(operator.url));
  const made = (who: string) =>
    `create function help.${who}() returns text language sql security definer
    as $$ select n.payload from hark.notification(${published}) n $$`;
  await operating.query(made("theirs"));
  await db.query(made("own"));
  const of = async (on: Queryable, who: string) =>
    (await on.query(`select help.${who}() as payload`)).rows[0].payload;
  assert.match(await of(db, "theirs"), /Lovelace/);
  // What an observer makes stays an observer's, also if another role calls it.
  assert.equal(await of(operating, "own"), null);
  assert.equal(await of(db, "own"), null);
});

test("the dashboard of a role that may observe shows every screen, no payload, and does nothing", async (context) => {
  const { db, owner, published } = await scene(context);
  const same = "s".repeat(32);
  const ada = { name: "ada", role: "operate" as const };
  const { get, post } = visits(db, { authorize: () => ada, secret: same });
  for (
    const path of [
      "/",
      "/consumers",
      "/consumer?name=mail",
      "/log?show=payload",
      `/notification?id=${published}&show=payload`,
      "/dead",
      "/dead?consumer=mail",
      "/watches",
      "/later",
      "/workers",
      "/relays",
      "/relays?inbox=in",
      "/server",
      "/audit",
    ]
  ) {
    const { status, text } = await get(path);
    assert.equal(status, 200, `${path}: ${text}`);
    assert.doesNotMatch(text, /Lovelace|method="post"/, path);
    assert.match(text, /looks only/, path);
  }
  const token = await visits(owner, { authorize: () => ada, secret: same }).token(
    "/consumer?name=mail",
  );
  assert.notEqual(token, "");
  for (
    const fields of [
      { act: "pause", consumer: "mail" },
      { act: "retry", consumer: "mail", all: "1" },
      { act: "discard", consumer: "mail", id: String(published) },
      { act: "seek", consumer: "mail", to: "beginning" },
      { act: "remove", consumer: "mail", typed: "mail" },
      { act: "publish", original: String(published), channel: "people", payload: "1" },
      { act: "redrive", inbox: "in", number: "1" },
      { act: "drop", inbox: "in", number: "1" },
    ]
  ) {
    const { status, text } = await post({ ...fields, token } as Record<string, string>);
    assert.equal(status, 403, `${JSON.stringify(fields)}: ${text}`);
  }
  const [dead, inbox] = [
    await deadLetters(owner),
    await context.sql("select from hark.inbox_dead"),
  ];
  assert.deepEqual([dead.length, inbox.length, await acts(owner)], [1, 1, []]);
  assert.throws(() => dashboard(null as never, { authorize: () => null }), { code: "BAD_OPTION" });
});

test("a process with nothing but the right to observe serves the metrics of the database", async (context) => {
  const { db } = await scene(context);
  using ask = monitor({ observe: db });
  const text = await (await ask(new Request("http://localhost/metrics"))).text();
  assert.match(text, /^hark_reporting\{[^}]*\} 1$/m);
  assert.match(text, /^hark_consumer_dead\{[^}]*"mail"\} 1$/m);
  assert.match(text, /^hark_inbox_dead\{[^}]*"in"\} 1$/m);
});
