/** Who may call what, and callers whose search_path is full of traps. */

import assert from "node:assert/strict";
import { type Client, test, type TestContext } from "../harness/mod.ts";
import { tablesToWatch, traps, watching } from "./_support/traps.ts";

/** Roles are the server's, not the database's: named after the test's database, dropped at the end. */
async function role({ sql, use, database }: TestContext, what: string): Promise<string> {
  const name = `${database}_${what}`;
  await sql(`create role ${name}`);
  use({
    async [Symbol.asyncDispose]() {
      await sql(`drop owned by ${name} cascade`);
      await sql(`drop role ${name}`);
    },
  });
  return name;
}

async function as(context: TestContext, role: string): Promise<Client> {
  const client = await context.client();
  await client.query(`set role ${role}`);
  return client;
}

/** For every role that has a right. */
const common = ["select hark.version()", "select hark.functions_digest()"];
const publishing = [
  "select hark.notify('c', '{\"a\": 1}', 'k', '{\"h\": 1}')",
  "select hark.notify('c')",
  "select hark.smart_notify('c', '[1]')",
  `select hark.notify_many('[{"channel": "c", "payload": 1, "key": "k", "headers": {}}, {"channel": "d"}]')`,
  "select hark.notify_at('c', '1', 'k', '{}', '2020-01-01')",
  "select hark.cancel_delayed(0)",
  "select hark.schedule('s', '0 3 * * *', 'UTC', '2020-01-01', 'c', '1', 'k', '{}', 'skip')",
  "select hark.schedule('s', '0 3 * * *', 'UTC', '2020-01-01', 'c')",
  "select hark.unschedule('t')",
  "select * from hark.notify_once('c', '1', 'k', '{}', 'once', '1 hour')",
  "select * from hark.notify_once('c', '1', 'k', '{}', 'once', '1 hour')",
  `select * from hark.notify_each('[{"channel": "c", "dedupe_key": "each"}, {"channel": "c", "delay_ms": 0}]')`,
  `with s as materialized (select pg_catalog.set_config('hark.context', '{"who": "me"}', true))
   select hark.notify('c', '1', 'k', '{"h": 1}') from s`,
];
/** Of a trigger's, after an insert of its own. */
const waking = ["select hark.wake('c')"];

/** A mark, cut before the call: a transaction that has cut one may not cut a second. */
const newest = "(pg_catalog.current_setting('hark_test.mark', true)::hark.marks)";
const cut = "select pg_catalog.set_config('hark_test.mark', hark.cut()::pg_catalog.text, false)";
const place =
  `array[${newest}], array[${newest}.number], array[null::pg_catalog.int8], array[0::pg_catalog.int8],
  array[0::pg_catalog.int8]`;
const me = "'00000000-0000-0000-0000-000000000001'";
const consuming = [
  "select hark.rebase()",
  "select hark.content_of(hark.cut())",
  "select hark.content_of(m), hark.wants_cut(m) from hark.look() m",
  "select * from hark.look_here()",
  "select hark.start_position('now', null, null)",
  "select hark.start_position('id', 1, null)",
  "select hark.start_position('time', null, '2020-01-01')",
  "select hark.register('r', array['c', 'd'], 'beginning')",
  `select hark.register('r', array['c'], 'now', null, null, null, false, 1)`,
  `select hark.register('r', array['c', 'e'], 'now', null, null, '{"payload": {}}', false, 1,
    '[{"channel": "e", "kind": "beginning"}]')`,
  "select hark.channels_of('r')",
  `select * from hark.heartbeat(${me}, 5, 60000, true, ':1', array['r'], array[${me}]::pg_catalog.uuid[], array[null]::pg_catalog.text[],
    '[{"channels": ["e", "c"], "filter": {"payload": {}}, "transactional": false}]')`,
  "select hark.turn_partitions('r')",
  "select hark.relay_place('r', 0, 'a stream', 5)",
  "select hark.relay_place('r', null, 'a stream', 5)",
  `select hark.keep_relay_endpoints('r', '[{"endpoint": "e", "disabled": true, "failures": 1, "failing_ms": 5, "wait_ms": 5,
    "status": 410, "reason": "gone"}]', array['f'])`,
  "select hark.relay_endpoints('r')",
  "select hark.relay_endpoints('r', true)",
  "select hark.relay_unhandled('r', array[1::pg_catalog.int8])",
  "select hark.inbox_place('i', 'a stream', 0)",
  `select hark.inbox_take('i', 'a stream', 0, 5, '[{"sequence": 5, "subject": "s", "body": "eA==", "reason": "r"}]')`,
  "select hark.inbox_dead_letters('i', 0, 10)",
  "select hark.inbox_status(100)",
  "select * from hark.relay_status()",
  "select hark.inbox_dead_in_outline('i', 0, 10)",
  "select hark.inbox_settle('i', 1)",
  "select hark.tell_trouble('relay', 'r', 'no answer')",
  "select hark.tell_trouble('relay', 'r', null)",
  "select hark.keep_relay_places('r', 'a stream', array[0], array[1::pg_catalog.int8], array[9::pg_catalog.int8])",
  `select * from hark.claim('r', array[0], ${me})`,
  `select * from hark.lost_owners('r', array[0], ${me})`,
  "select hark.extend()",
  "select hark.thin_marks('0')",
  `select * from hark.window('r', ${me}, array[0], array[3], null, true)`,
  `select * from hark.common_window('[{"consumer": "r", "owner": "${
    me.slice(1, -1)
  }", "channels": ["c", "e"], "held": [0], "epochs": [3]}]',
    1, null, ${newest})`,
  `select hark.resume_mark(${newest})`,
  "select * from hark.log_facts()",
  `select * from hark.resume_position((select f.install from hark.log_facts() f), ${newest}, ${newest}, 1, 0)`,
  `select * from hark.resume_position((select f.install from hark.log_facts() f), (select row(m.number, m.life, '-infinity', null,
    m.upper, m.running, null, null, null, null, null, null, null)::hark.marks from (select ${newest}.*) m), null, null, 0)`,
  `select hark.register('p', array['c'], 'position', null, null, null, false, 1, null, 0,
    array[(select f.install from hark.log_facts() f), '(0,00000000-0000-0000-0000-000000000000,-infinity,,1,0,,,,,,,)', null, null, '0'])`,
  `select * from hark.page(${newest}, ${newest}, null, 0, array['c'], 10, 1000, 1000, null,
    '{"key": "k", "headers": {}}', 3, array[0, 1], 'c')`,
  `select hark.is_behind('r', array[0], ${newest})`,
  `select hark.begin_alone('r', ${me}, 0, 3, 1)`,
  `select * from hark.acknowledge_all('[["r", "${
    me.slice(1, -1)
  }", "{0}", "{3}", "[]", "", "", "", "", "{1}", "{t}",
    "[{\\"kind\\": \\"end\\", \\"id\\": 1, \\"partition\\": 0}]"]]')`,
  `select hark.acknowledge('r', ${me}, array[0], array[3], ${place}, array[2], array[true],
    '[{"kind": "wait", "id": 1, "partition": 0, "key": "k", "state": "failed", "attempts": 1, "error": "x"},
      {"kind": "wait", "id": 2, "partition": 0, "state": "behind", "attempts": 0},
      {"kind": "dead", "id": 2, "partition": 0, "attempts": 1, "error": "x"}]')`,
  `select hark.begin_handling(${me}, 60000)`,
  `with s as materialized (select pg_catalog.set_config('hark.handling', ${me}, true))
   select hark.finish('r', ${me}, array[0], array[3], array[1, 3], array[0, 0]) from s`,
  `select hark.report_halts('r', ${me}, array[0], array[3], array['blocked'])`,
  "select * from hark.done_of('r', array[0])",
  "select * from hark.waiting_of('r', array[0], 0, 10)",
  "select * from hark.waiting_rows('r', array[1, 2], 1000000)",
  "select hark.move_replays('r', 10)",
  "select * from hark.deliver_due(10)",
  "select hark.request_look('r')",
  "select * from hark.status()",
  "select * from hark.partitions_of('r')",
  "select * from hark.workers_of('r')",
  "select * from hark.sleeping()",
  "select * from hark.heads_of('r')",
  "select * from hark.replays_of('r')",
  "select * from hark.holding()",
  "select * from hark.delayed_status()",
  "select * from hark.pace(5)",
  "select hark.measure('00000000-0000-0000-0000-000000000001')",
  "select * from hark.schedules()",
  "select * from hark.next_schedules(1)",
  "select hark.run_schedule('s', '0 3 * * *', 'UTC', 1577836800000, 1577836801000)",
  `select hark.sleep(${me}, array['c', 'd'], 1, 60000)`,
  `select hark.sleep(${me}, array['e'], null, 60000)`,
  `select * from hark.stay_asleep(array[${me}]::pg_catalog.uuid[], 5, 60000)`,
  "select hark.publishers()",
  "select hark.publishers(array['3'::pg_catalog.xid])",
  `select hark.wake_up(${me})`,
  "select hark.shut_gates()",
  "select * from hark.retention_settings()",
  "select * from hark.apply_retention()",
  `select hark.release('r', ${me}, array[0], array[3])`,
  `select * from hark.fall_asleep('r', ${me}, ${me}, null, array[0], array[3], 0, 1000)`,
  `select hark.awake('r', ${me})`,
  `select hark.yield_to_newer('r', ${me})`,
  `select hark.leave('r', ${me})`,
  `select hark.enter('r', ${me}, ${me}, 60000, ':1',
    '{"channels": ["e", "c"], "filter": {"payload": {}}, "transactional": false}', 0)`,
];
/** Of a consumer that the owner registers. */
const operating = [
  "select hark.seek('o', 'beginning')",
  "select hark.seek('o', 'id', 1)",
  "select hark.replay('o', 1, 2, array['c'])",
  "select hark.replay('o', from_time => '2020-01-01', to_time => '2100-01-01')",
  "select hark.replay_count(1)",
  "select hark.redrive_endpoint('r', 'e')",
  "select hark.pause('o')",
  "select hark.resume('o')",
  "select * from hark.dead_letters('o', 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10, 0, array[1])",
  "select hark.dead_count('o', 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10, array[1])",
  "select hark.retry('o', array[1], 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10)",
  "select * from hark.whereabouts('o', array[1, 2, 99])",
  `select * from hark.notifications(array['c'], 'k', '{}', 'x', 1, 9, '2020-01-01', '2100-01-01', false, 10)`,
  "select * from hark.notifications()",
  "select * from hark.notification(1)",
  "select * from hark.verdicts(1)",
  "select * from hark.log_channels(1, 9, '2020-01-01', '2100-01-01', 10)",
  "select * from hark.delayed_notifications('c', 'k', 10, null)",
  "select * from hark.replay_ids('o', array[1, 2])",
  `select * from hark.delete_notifications('a test', null, 'c', 'none', '{}', 'x', 1, 9, '2020-01-01', '2100-01-01')`,
  "select * from hark.delete_notifications('a test', array[99])",
  "select * from hark.deletions()",
  "select hark.discard('o', null, 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10)",
  "select * from hark.dead_groups('o', 10)",
  "select * from hark.waits_behind(1)",
  "select * from hark.preview('o', 1, 9, '2020-01-01', '2100-01-01', array['c'], 10)",
  "select hark.record_anew(1, 2)",
  "select * from hark.list_acts(10, 9, 'o')",
  "select hark.repartition('o', 3)",
  "select * from hark.drop_inactive('2020-01-01', true)",
  "select * from hark.drop_inactive('2020-01-01')",
  "select * from hark.clean('infinity', 0, 100, false, true, array['o'])",
  "select * from hark.clean('infinity', 0, 100, true)",
  "select hark.remove_consumer('o')",
  "select * from hark.empty_segment('2020-01-01', true)",
  "select hark.set_retention('7 days')",
  "select hark.set_retention('1 day', 'c')",
  "select hark.unset_retention('c')",
  "select hark.has_older('infinity', 10)",
  "select hark.tidy()",
  "select hark.drop_segments()",
];
/** For roles that may observe, beside what operators may look at too. */
const observing = [
  "select * from hark.notifications_in_outline(array['c'], 'k', null, null, 1, 9, '2020-01-01', '2100-01-01', false, 10)",
  "select * from hark.notification_in_outline(1)",
  "select * from hark.dead_in_outline('o', 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10, 0, array[1])",
  "select * from hark.delayed_in_outline('c', 'k', 10, null)",
  "select * from hark.schedules_in_outline()",
  "select hark.sees_contents()",
];
/** For the owner alone. */
const owning = [
  "select * from hark.clean('infinity', 0, 100, false, true)",
  "select * from hark.clean('infinity', 0, 100, true)",
  "select * from hark.status(10)",
  "select hark.incarnation()",
  `select hark.mark_before(${newest})`,
  `select * from hark.named_mark(${newest})`,
  "select hark.forget_dedupe()",
  "select hark.partition_of('k', 1, 3)",
  "select hark.stored_bytes('c', 'k', '1', '{}')",
  "select hark.passed(1, '3'::pg_catalog.xid8, 0, false, '1:1:'::pg_catalog.pg_snapshot, '4:4:'::pg_catalog.pg_snapshot, 5, 0)",
  "select hark.raise_lost() where false",
  "select hark.raise_lows(array['3'::pg_catalog.xid8], array[0])",
  ...waking,
  "select pg_catalog.setval('hark.log_id_seq', 4500000)",
  "select hark.extend()",
  "select * from hark.empty_segment('infinity', true)",
  "select hark.drop_segments()",
  "select hark.renew_grants()",
  "select hark.renew_watches()",
];
/** A reader sleeps on every channel. */
const asleep = `select hark.sleep(${me}, array['c', 'd', 'traps.mine'], null, 600000)`;
/** Has something to operate on. */
const prepared = `select hark.register('o', array['c']);
  insert into hark.dead (consumer, id, channel, key, payload, attempts, error)
  select 'o', n, 'c', 'k', '1', 1, 'x' from generate_series(1, 2) n`;

async function runAll(client: Client, calls: readonly string[]): Promise<void> {
  for (const call of calls) {
    try {
      if (call.includes(newest)) await client.query(cut);
      await client.query(call);
    } catch (error) {
      throw new Error(`${call}: ${(error as Error).message}`, { cause: error });
    }
  }
}

test("nothing in a hostile search_path runs with the rights of the log's owner", async (context) => {
  const { sql } = context;
  const caller = await role(context, "hostile");
  await sql("select hark.grant_publish($1)", [caller]);
  await sql("select hark.grant_read($1)", [caller]);
  await sql("select hark.grant_consume($1)", [caller]);
  await sql("select hark.grant_operate($1)", [caller]);
  await sql("select hark.grant_observe($1)", [caller]);
  await sql(`create schema traps authorization ${caller}`);
  const client = await as(context, caller);
  await traps(client, caller);
  await runAll(client, [...common, ...publishing, ...consuming]);
  await sql(asleep); // so that they go all the way
  await runAll(client, publishing.slice(0, 4));
  for (
    const wrong of [
      "hark.notify('')",
      "hark.notify(null)",
      "hark.notify('c', '1', null, '[]')",
      "hark.notify_many('[{}]')",
      "hark.notify_at(null, deliver_at => now())",
    ]
  ) await assert.rejects(client.query(`select ${wrong}`), { code: "HK006" }, wrong);
  const [{ count }] = await sql("select count(*)::int from hark.log");
  assert.equal(count, 16, "each call published what it was to publish");
  await client.query(tablesToWatch);
  await runAll(client, watching);
  await sql(prepared);
  await runAll(client, observing);
  await runAll(client, operating);
  const owner = await context.client();
  await owner.query("set search_path = traps, pg_catalog, public");
  // The owner's own calls: a trap that ran would run as the owner, and raise.
  await runAll(owner, [
    ...owning,
    `select hark.grant_publish('${caller}')`,
    `select hark.grant_read('${caller}')`,
    `select hark.grant_consume('${caller}')`,
    `select hark.grant_operate('${caller}')`,
    `select hark.grant_observe('${caller}')`,
    "create table traps.gone (id int4)",
    `alter table traps.gone owner to ${caller}`,
    ...watching.filter((call) => call.startsWith("select")),
    `select hark.revoke_rights('${caller}')`,
  ]);
});

test("every function is tried there, itself or by another that is", async ({ sql }) => {
  const functions = await sql(
    "select proname as name, prosrc as body from pg_proc where pronamespace = 'hark'::regnamespace",
  );
  const tried = new Set<string>();
  const look = (text: string) => {
    for (const [, name] of text.matchAll(/hark\.(\w+)\(/g)) {
      if (tried.has(name!)) continue;
      tried.add(name!);
      for (const { body } of functions.filter((f) => f.name === name)) look(body);
    }
  };
  look(
    [...common, ...publishing, ...consuming, ...operating, ...observing, ...owning, ...watching]
      .join(),
  );
  for (
    const name of [
      "grant_publish",
      "grant_read",
      "grant_consume",
      "grant_operate",
      "grant_observe",
      "revoke_rights",
    ]
  ) {
    look(`hark.${name}(`);
  }
  assert.deepEqual(functions.map(({ name }) => name).filter((name) => !tried.has(name)).sort(), []);
});

test("a function without a search_path of its own is one of those that are made for it", async ({ sql }) => {
  const open = await sql(
    `select distinct p.proname::text as name from pg_proc p
     where p.pronamespace = 'hark'::regnamespace
       and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
     order by 1`,
  );
  assert.deepEqual(open.map(({ name }) => name), [
    "gate_of",
    "gates",
    "is_front_gate_open",
    "is_gate_open",
    "notify",
    "notify_many",
    "partition_of",
    "passed",
    "smart_notify",
    "stored_bytes",
    "tag_of",
    "wake",
    "wake_all",
    "wake_one",
    "wants_cut",
  ]);
});

test("a trap is seen when a function falls into one", async (context) => {
  const { sql } = context;
  const caller = await role(context, "seen");
  await sql("select hark.grant_publish($1)", [caller]);
  await sql(`create schema traps authorization ${caller}`);
  const client = await as(context, caller);
  await traps(client, caller);
  await sql(asleep);
  for (
    const [name, from, to] of [
      ["notify", "pg_catalog.clock_timestamp()", "clock_timestamp()"],
      ["notify", "operator(pg_catalog.-) 1", "- 1::pg_catalog.int4"],
      ["notify", "operator(pg_catalog.>) 199", "> 199"],
      ["is_front_gate_open", "operator(pg_catalog.<) 0", "< 0::pg_catalog.int8"],
      ["is_gate_open", "operator(pg_catalog.<) 0", "< 0::pg_catalog.int8"],
      ["gate_of", "pg_catalog.hashtext(", "hashtext("],
      ["wake_one", "operator(pg_catalog.<>) 'off'", "<> 'off'::pg_catalog.text"],
      ["wake_one", "pg_catalog.pg_notify(", "pg_notify("],
      ["wake_one", "operator(pg_catalog.<) 0.5", "< 0.5::pg_catalog.float8"],
      [
        "wake_one",
        "pg_catalog.current_setting('transaction_isolation')",
        "current_setting('transaction_isolation')",
      ],
    ] as const
  ) {
    const [{ text }] = await sql("select pg_get_functiondef($1::regproc) as text", [
      `hark.${name}`,
    ]);
    await sql(text.replace(from, to));
    await assert.rejects(
      client.query("select hark.notify('c', key => 'k')"),
      /a trap ran as/,
      `${name} with ${to}`,
    );
    await sql(text);
  }
  await client.query("select hark.notify('c')");
});

test("PUBLIC may execute nothing and read nothing", async (context) => {
  const { sql } = context;
  const open = await sql(
    `select p.oid::regprocedure::text as name from pg_proc p
     where p.pronamespace = 'hark'::regnamespace
       and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where a.grantee = 0)`,
  );
  assert.deepEqual(open, []);
  const tables = await sql(
    `select c.oid::regclass::text as name from pg_class c
     where c.relnamespace = 'hark'::regnamespace and c.relkind in ('r', 'S', 'v')
       and exists (select from aclexplode(coalesce(c.relacl,
         acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) a
         where a.grantee = 0)`,
  );
  assert.deepEqual(tables, []);
  const stranger = await as(context, await role(context, "stranger"));
  await sql(`create schema traps; ${tablesToWatch}`);
  await sql("grant usage on schema traps to public; grant trigger on traps.mine to public");
  for (
    const call of [
      ...publishing,
      ...consuming,
      ...operating,
      ...watching.filter((call) => call.includes("hark.")),
      "select * from hark.log",
      "select * from hark.watches",
      "insert into hark.published (channel, payload) values ('c', '1')",
    ]
  ) {
    await assert.rejects(stranger.query(call), { code: "42501" }, call);
  }
});

test("a role that may publish cannot consume, one that may consume cannot publish, neither can do more", async (context) => {
  const { sql } = context;
  const [publisher, consumer] = [await role(context, "publisher"), await role(context, "consumer")];
  await sql("select hark.grant_publish($1)", [publisher]);
  await sql("select hark.grant_consume($1)", [consumer]);
  const denied = { code: "42501" };
  const publishes = await as(context, publisher);
  await runAll(publishes, [...common, ...publishing]);
  for (const call of [...consuming, ...operating]) {
    await assert.rejects(publishes.query(call), denied, call);
  }
  const consumes = await as(context, consumer);
  await runAll(consumes, [...common, ...consuming]);
  await sql(`create schema traps authorization ${consumer}`);
  await consumes.query(tablesToWatch);
  const watches = watching.filter((call) => call.includes("hark.") && !call.includes("watches()"));
  for (const call of [...publishing, ...operating, ...watches]) {
    await assert.rejects(consumes.query(call), denied, call);
  }
  for (
    const call of [
      "select * from hark.log",
      "insert into hark.log (channel, payload) values ('c', '1')",
      "update hark.partitions set epoch = 0",
      "select nextval('hark.log_id_seq')",
      "select * from hark.clean('infinity')",
      `select hark.grant_consume('${publisher}')`,
      "select hark.incarnation()",
      "create table hark.mine (n integer)",
      "select * from hark.published",
      "update hark.published set channel = 'd'",
      "delete from hark.published",
    ]
  ) {
    await assert.rejects(publishes.query(call), denied, call);
    await assert.rejects(consumes.query(call), denied, call);
  }
});
