/** Who may call what, and callers whose search_path is full of traps. */

import assert from "node:assert/strict";
import { type Client, test, type TestContext } from "../harness/mod.ts";

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

const operators = [
  "=",
  "<>",
  "<",
  "<=",
  ">",
  ">=",
  "||",
  "+",
  "-",
  "->",
  "->>",
  "~~",
  "*",
  "/",
  "@>",
];
const types = [
  "text",
  "bigint",
  "integer",
  "boolean",
  "xid8",
  "xid",
  "uuid",
  "name",
  "oid",
  "jsonb",
  "json",
  "timestamptz",
  "interval",
  "double precision",
  "numeric",
  "pg_snapshot",
  "text[]",
  "bigint[]",
  "xid8[]",
];
const functions = [
  "pg_notify(text, text) returns void",
  "pg_current_xact_id() returns xid8",
  "pg_current_xact_id_if_assigned() returns xid8",
  "pg_current_snapshot() returns pg_snapshot",
  "pg_visible_in_snapshot(xid8, pg_snapshot) returns boolean",
  "pg_snapshot_xmax(pg_snapshot) returns xid8",
  "pg_snapshot_xip(pg_snapshot) returns setof xid8",
  "pg_notification_queue_usage() returns double precision",
  "pg_is_in_recovery() returns boolean",
  "pg_try_advisory_xact_lock(bigint) returns boolean",
  "current_setting(text) returns text",
  "current_setting(text, boolean) returns text",
  "clock_timestamp() returns timestamptz",
  "now() returns timestamptz",
  "gen_random_uuid() returns uuid",
  "upper(text) returns text",
  "left(text, integer) returns text",
  "octet_length(text) returns integer",
  "char_length(text) returns integer",
  "jsonb_typeof(jsonb) returns text",
  "json_to_recordset(json) returns setof record",
  "unnest(bigint[]) returns setof bigint",
  "unnest(text[]) returns setof text",
  "unnest(anyarray) returns setof anyelement",
  "make_interval(integer, integer, integer, integer, integer, integer, double precision) returns interval",
  "pg_column_size(jsonb) returns integer",
  "pg_column_compression(jsonb) returns text",
  "set_config(text, text, boolean) returns text",
  "current_database() returns name",
];

/** A schema in front of pg_catalog where everything raises the alarm if it runs as anybody else. */
async function traps(client: Client, caller: string): Promise<void> {
  const sprung = `begin
    if current_user <> '${caller}' then raise exception 'a trap ran as %', current_user; end if;
    return null;
  end`;
  // The bodies themselves are not to fall into the traps.
  const settings = "language plpgsql set search_path = pg_catalog";
  await client.query(
    "create table traps.log (id integer); create table traps.consumers (id integer);",
  );
  await client.query(
    "create table traps.partitions (id integer); create table traps.install (id integer);",
  );
  await client.query(
    "create table traps.published (id integer); create table traps.pg_roles (id integer);",
  );
  for (const name of functions) {
    const body = name.includes("setof") ? sprung.replace("return null;", "return;") : sprung;
    const plain = name.endsWith("returns void") ? sprung.replace("return null;", "return;") : body;
    await client.query(`create function traps.${name} ${settings} as $trap$ ${plain} $trap$`);
  }
  for (const [n, operator] of operators.entries()) {
    const result = ["||", "+", "-", "*", "/", "->", "->>"].includes(operator) ? "same" : "boolean";
    for (const [m, type] of types.entries()) {
      const returns = result === "same" ? type : result;
      await client.query(
        `create function traps.o_${n}_${m}(${type}, ${type}) returns ${returns} ${settings}
           as $trap$ ${sprung} $trap$;
         create operator traps.${operator} (
           leftarg = ${type}, rightarg = ${type}, function = traps.o_${n}_${m})`,
      );
    }
  }
  for (
    const type of ["text", "jsonb", "int8", "xid8", "bool", "timestamptz", "pg_snapshot", "uuid"]
  ) {
    await client.query(`create domain traps.${type} as pg_catalog.int4 check (value = 42)`);
  }
  await client.query("set search_path = traps, pg_catalog, public");
}

const publishing = [
  "select hark.version()",
  "select hark.notify('c', '{\"a\": 1}', 'k', '{\"h\": 1}')",
  "select hark.notify('c')",
  "select hark.smart_notify('c', '[1]')",
  `select hark.notify_many('[{"channel": "c", "payload": 1, "key": "k", "headers": {}}, {"channel": "d"}]')`,
  "select hark.notify_at('c', '1', 'k', '{}', '2020-01-01')",
  "select hark.cancel_delayed(0)",
  "select * from hark.notify_once('c', '1', 'k', '{}', 'once', '1 hour')",
  "select * from hark.notify_once('c', '1', 'k', '{}', 'once', '1 hour')",
  `select * from hark.notify_each('[{"channel": "c", "dedupe_key": "each"}, {"channel": "c", "delay_ms": 0}]')`,
];

const position = "hark.start_position('beginning', null, null)";
const opened = `hark.window_open(${position})`;
const me = "'00000000-0000-0000-0000-000000000001'";
const consuming = [
  "select hark.rebase()",
  "select hark.waymark(0, '0')",
  "select hark.timeline()",
  "select hark.start_position('now', null, null)",
  "select hark.start_position('id', 1, null)",
  "select hark.start_position('time', null, '2020-01-01')",
  "select hark.register('r', array['c', 'd'], 'beginning')",
  `select hark.register('r', array['c'], 'now', null, null, null, false, 1)`,
  `select hark.register('r', array['c', 'e'], 'now', null, null, '{"payload": {}}', false, 1,
    '[{"channel": "e", "kind": "beginning"}]')`,
  "select hark.channels_of('r')",
  `select * from hark.attend('r', ${me}, 5, 60000, true, array['e', 'c'], '{"payload": {}}', false)`,
  `select * from hark.claim('r', array[0], ${me})`,
  `select * from hark.lost_owners('r', array[0], ${me})`,
  `select * from hark.window('r', ${me}, array[0], array[3], ${position})`,
  `select hark.window_advance(${opened})`,
  `select hark.pass(${opened})`,
  `select hark.merged(${position}, ${position})`,
  `select * from hark.window_read(${opened}, array['c'], 10, 1000, 1000, null, '{"key": "k", "headers": {}}',
    3, array[0, 1])`,
  `select hark.is_behind('r', array[0], (${opened}).target)`,
  `select hark.trying('r', ${me}, 0, 3, 1)`,
  `select hark.acknowledge('r', ${me}, array[0], array[3], array[${opened}::pg_catalog.text],
    array[null::pg_catalog.int8], array[2], array[true],
    '[{"kind": "park", "id": 1, "partition": 0, "key": "k", "state": "failed", "attempts": 1, "error": "x"},
      {"kind": "park", "id": 2, "partition": 0, "state": "behind", "attempts": 0},
      {"kind": "dead", "id": 2, "partition": 0, "attempts": 1, "error": "x"}]')`,
  `select hark.begin_handling(${me}, 60000)`,
  `select hark.finish('r', ${me}, array[0], array[3], array[1, 3], array[0, 0])`,
  "select * from hark.done_of('r', array[0])",
  "select * from hark.waiting_of('r', array[0], 0, 10)",
  "select * from hark.waiting_rows('r', array[1, 2])",
  "select hark.feed('r', 10)",
  "select * from hark.deliver_due(10)",
  "select hark.nudge('r')",
  "select * from hark.status()",
  "select * from hark.partitions_of('r')",
  "select * from hark.workers_of('r')",
  "select * from hark.heads_of('r')",
  "select * from hark.replays_of('r')",
  "select * from hark.holding()",
  `select hark.release('r', ${me}, array[0], array[3])`,
  `select hark.leave('r', ${me})`,
];
/** Of a consumer that the owner registers. */
const operating = [
  "select hark.seek('o', 'beginning')",
  "select hark.seek('o', 'id', 1)",
  "select hark.replay('o', 1, 2, array['c'])",
  "select hark.replay('o', from_time => '2020-01-01', to_time => '2100-01-01')",
  "select hark.pause('o')",
  "select hark.resume('o')",
  "select * from hark.dead_letters('o', 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10, 0, array[1])",
  "select hark.retry_dead('o', array[1], 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10)",
  "select hark.discard_dead('o', null, 'c', 'k', 'x', 1, 9, '2020-01-01', '2100-01-01', 10)",
  "select hark.repartition('o', 3)",
  "select * from hark.drop_inactive('2020-01-01', true)",
  "select * from hark.drop_inactive('2020-01-01')",
  "select * from hark.clean('infinity', 0, 100, false, true, array['o'])",
  "select * from hark.clean('infinity', 0, 100, true)",
  "select hark.remove_consumer('o')",
];
/** Has something to operate on. */
const prepared = `select hark.register('o', array['c']);
  insert into hark.dead (consumer, id, channel, key, payload, attempts, error)
  select 'o', n, 'c', 'k', '1', 1, 'x' from generate_series(1, 2) n`;

async function runAll(client: Client, calls: readonly string[]): Promise<void> {
  for (const call of calls) {
    try {
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
  await sql("select hark.grant_consume($1)", [caller]);
  await sql("select hark.grant_operate($1)", [caller]);
  await sql(`create schema traps authorization ${caller}`);
  const client = await as(context, caller);
  await traps(client, caller);
  await runAll(client, publishing);
  await runAll(client, consuming);
  const [{ count }] = await sql("select count(*)::int from hark.log");
  assert.equal(count, 9, "each call published what it was to publish");
  await sql(prepared);
  await runAll(client, operating);
  const owner = await context.client();
  await owner.query("set search_path = traps, pg_catalog, public");
  // The owner's own calls: a trap that ran would run as the owner, and raise.
  await runAll(owner, [
    "select * from hark.clean('infinity', 0, 100, false, true)",
    "select * from hark.clean('infinity', 0, 100, true)",
    "select * from hark.status(10)",
    "select hark.incarnation()",
    "select hark.forget_dedupe()",
    `select hark.grant_publish('${caller}')`,
    `select hark.grant_consume('${caller}')`,
    `select hark.grant_operate('${caller}')`,
  ]);
});

test("a trap is seen when a function falls into one", async (context) => {
  const { sql } = context;
  const caller = await role(context, "seen");
  await sql("select hark.grant_publish($1)", [caller]);
  await sql(`create schema traps authorization ${caller}`);
  const client = await as(context, caller);
  await traps(client, caller);
  const [{ text }] = await sql("select pg_get_functiondef('hark.notify'::regproc) as text");
  for (
    const [from, to] of [
      ["operator(pg_catalog.<>) 'off'", "<> 'off'::pg_catalog.text"],
      ["pg_catalog.pg_notify(", "pg_notify("],
      ["pg_catalog.clock_timestamp()", "clock_timestamp()"],
      ["operator(pg_catalog.<) 0.5", "< 0.5::pg_catalog.float8"],
    ] as const
  ) {
    assert.equal(text.split(from).length, 2);
    await sql(text.replace(from, to));
    await assert.rejects(client.query("select hark.notify('c')"), /a trap ran as/);
  }
  await sql(text);
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
  const nobody = await as(context, await role(context, "nobody"));
  for (const call of [...publishing, ...consuming, ...operating, "select * from hark.log"]) {
    await assert.rejects(nobody.query(call), { code: "42501" });
  }
});

test("a role that may publish cannot consume, one that may consume cannot publish, neither can do more", async (context) => {
  const { sql } = context;
  const [publisher, consumer] = [await role(context, "publisher"), await role(context, "consumer")];
  await sql("select hark.grant_publish($1)", [publisher]);
  await sql("select hark.grant_consume($1)", [consumer]);
  const denied = { code: "42501" };
  const publishes = await as(context, publisher);
  await runAll(publishes, publishing);
  for (const call of [...consuming, ...operating]) {
    await assert.rejects(publishes.query(call), denied, call);
  }
  const consumes = await as(context, consumer);
  await runAll(consumes, consuming);
  for (const call of [...publishing.slice(1), ...operating]) {
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
    ]
  ) {
    await assert.rejects(publishes.query(call), denied, call);
    await assert.rejects(consumes.query(call), denied, call);
  }
});
