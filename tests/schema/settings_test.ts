import assert from "node:assert/strict";
import { connect, unwatch, watch, watches } from "../../mod.ts";
import { Line } from "../faults/_support/line.ts";
import { Running } from "../faults/_support/running.ts";
import { patient, test, until } from "../harness/mod.ts";
import { role } from "./_support/role.ts";
import { set, type Settings, testDefaults } from "./_support/defaults.ts";
import { type LifeOptions, lifeTables, live } from "./_support/life.ts";

/**
 * The defaults of a database, and what they keep the user's own sessions from. Those of one test do not
 * touch each other: each stands in one test with all that the user's sessions can do under it.
 */
const defaults: readonly [Settings, LifeOptions?][] = [
  [{ default_transaction_isolation: "repeatable read" }, { reads: false }],
  [
    {
      default_transaction_isolation: "serializable",
      default_transaction_deferrable: "on",
      lock_timeout: "1ms",
    },
    { reads: false },
  ],
  [{ default_transaction_read_only: "on" }, { writes: false }],
  // The user's own sessions run nothing under these: on a slow machine that takes any time.
  [
    { statement_timeout: `${patient(250)}ms`, idle_session_timeout: `${patient(250)}ms` },
    { writes: false, installs: false, longest: patient(250) + 50 },
  ],
  [{ session_replication_role: "replica" }, { triggers: false }],
  // How text is read, and what is told of sessions.
  [{
    default_transaction_isolation: "read uncommitted",
    // Shorter than the life, longer than what a busy machine takes between two statements of the user's.
    idle_in_transaction_session_timeout: `${patient(500)}ms`,
    array_nulls: "off",
    transform_null_equals: "on",
    standard_conforming_strings: "off",
    backslash_quote: "off",
    log_statement: "all",
    synchronous_commit: "off",
    application_name: "x",
    default_tablespace: "pg_default",
  }],
  // How functions are read, and how values are written.
  [{
    "plpgsql.extra_errors": "all",
    "plpgsql.extra_warnings": "all",
    "plpgsql.variable_conflict": "use_column",
    timezone: "Asia/Kathmandu",
    datestyle: "German",
    intervalstyle: "sql_standard",
    row_security: "off",
    default_toast_compression: "lz4",
    quote_all_identifiers: "on",
  }],
  [{
    "plpgsql.variable_conflict": "use_variable",
    search_path: "nowhere, public, pg_catalog",
    datestyle: "SQL, DMY",
    extra_float_digits: "-15",
    bytea_output: "escape",
    xmlbinary: "hex",
    client_encoding: "LATIN1",
    plan_cache_mode: "force_custom_plan",
    work_mem: "64kB",
    enable_indexscan: "off",
  }],
];

for (const [settings, options] of defaults) testDefaults(settings, options);

test("behind a transaction pooler Hark works whatever the defaults are, and changes no session", {
  schema: false,
}, async (context) => {
  await context.sql(lifeTables);
  await set(context, {
    default_transaction_isolation: "serializable",
    default_transaction_read_only: "on",
    statement_timeout: `${patient(250)}ms`,
    lock_timeout: "1ms",
    array_nulls: "off",
  });
  await using line = new Line(Number(new URL(context.url).port));
  line.deaf = true;
  const url = line.through(context.url);
  await live(url, { writes: false, installs: false, options: { listen: false } });
  const db = context.use(await connect(url, { listen: false }));
  const shown = async (name: string) =>
    (await db.query(`select current_setting('${name}') as value`)).rows[0].value;
  assert.equal(await shown("transaction_isolation"), "read committed");
  assert.equal(await shown("default_transaction_isolation"), "serializable");
});

test(
  "a role's own defaults count no more than the database's",
  { schema: false },
  async (context) => {
    const { sql, database, url } = context;
    await sql(lifeTables);
    await sql(
      `alter role current_user in database ${database} set default_transaction_isolation = 'serializable'`,
    );
    await live(url, { reads: false });
  },
);

test("on a FIPS server, which has no md5, Hark works and a long key is published", {
  schema: false,
}, async (context) => {
  const { sql, url } = context;
  await sql(lifeTables);
  // A built-in function cannot fail in one database only, but it can be absent.
  const client = await context.client();
  await client.query("set allow_system_table_mods = on");
  for (const type of ["text", "bytea"]) {
    await client.query(`alter function pg_catalog.md5(${type}) rename to md5_of_other_servers`);
  }
  await live(url);
  await sql("create table long (id text primary key)");
  await sql("select hark.watch('long'); insert into long values (repeat('x', 2000))");
  const [{ length }] = await sql(
    "select length(key)::int as length from hark.log where channel = 'public.long'",
  );
  assert.equal(length, 965);
});

test("a role whose row_security is off watches its tables and publishes their rows", async (context) => {
  const owner = await role(context, { owner: true });
  const other = await role(context);
  for (const { name } of [owner, other]) {
    await context.sql("select hark.grant_publish($1)", [name]);
    await context.sql(
      `grant create on schema public to ${name}; alter role ${name} set row_security = off`,
    );
  }
  const theirs = await context.client(other.url);
  await theirs.query("create table theirs (id int primary key); insert into theirs values (1)");
  const db = context.use(await connect(owner.url));
  await db.query("create table mine (id int primary key); insert into mine values (1)");
  for (const [on, table] of [[db, "mine"], [theirs, "theirs"]] as const) {
    await watch(on, table, { snapshot: true });
    assert.deepEqual((await watches(on)).map(({ drift }) => drift), [[]]);
    await on.query(`insert into ${table} values (2)`);
    await on.query("select hark.rewatch($1)", [table]);
    await on.query("select hark.restart_snapshot($1)", [table]);
    await on.query("select * from hark.snapshot($1)", [table]);
    assert.equal(await unwatch(on, table), true);
  }
});

test("a watch has not drifted for a session that quotes all identifiers", async (context) => {
  const { sql, url } = context;
  await sql("create table plain (id int primary key, name text)");
  const db = context.use(await connect(url));
  await watch(db, "plain", { snapshot: true, key: "id", ifChanged: ["name"] });
  await set(context, { quote_all_identifiers: "on" });
  const quoting = context.use(await connect(url));
  assert.deepEqual((await watches(quoting))[0]!.drift, []);
  assert.equal(
    (await watch(quoting, "plain", { snapshot: true, key: "id", ifChanged: ["name"] })).outcome,
    "unchanged",
  );
});

test("a transaction of the user's on a Database keeps the isolation level that is the default", async (context) => {
  await set(context, { default_transaction_isolation: "serializable" });
  const db = context.use(await connect(context.url));
  const isolation = "select current_setting('transaction_isolation') as level";
  const { rows } = await db.transaction((tx) => tx.query(isolation));
  assert.equal(rows[0].level, "serializable");
});

test("a statement that Hark gave up while it waited for a lock ends on the server too", async (context) => {
  const { sql, client, url, use } = context;
  const running = use(new Running(use(await connect(url, { queryTimeout: patient(500) })), {}));
  await running.consumer.ready;
  const holder = await client();
  await holder.query("begin; lock table hark.consumers in access exclusive mode");
  const waiting = async () =>
    (await sql(
      `select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and query like '%hark.heartbeat%'`,
    )).map(({ pid }) => pid as number);
  let pids: number[] = [];
  await until(async () => (pids = await waiting()).length > 0, { what: "a heartbeat to wait" });
  const [first] = pids;
  await until(async () => !(await waiting()).includes(first!), {
    deadline: 30_000,
    what: "the heartbeat to end on the server",
  });
  await holder.query("rollback");
});

test("no variable of a function has the name of another, so that plpgsql.extra_errors finds nothing", async ({ sql, client }) => {
  const functions = await sql(
    `select pg_get_functiondef(p.oid) as text from pg_proc p join pg_language l on l.oid = p.prolang
     where p.pronamespace = 'hark'::regnamespace and l.lanname = 'plpgsql'`,
  );
  const strict = await client();
  await strict.query("set plpgsql.extra_errors = 'all'");
  for (const { text } of functions) await strict.query(text);
});

/**
 * A text in each encoding. Those of a server only; each converts to UTF-8. After the first of a kind, the
 * others publish and consume, and do no more.
 */
const encodings: Readonly<Record<string, readonly [text: string, isBrief: boolean]>> = {
  UTF8: ["日本 🐘", false],
  LATIN1: ["Größe", false],
  LATIN9: ["5 €", true],
  WIN1252: ["“5 €”", true],
  KOI8R: ["жизнь", true],
  EUC_JP: ["日本", false],
  EUC_KR: ["한국", true],
  EUC_TW: ["台灣", true],
  SQL_ASCII: ["Größe", false],
};

for (const [encoding, [text, isBrief]] of Object.entries(encodings)) {
  test(
    `Hark works in a database whose encoding is ${encoding}`,
    { schema: false, encoding },
    async ({ url, sql }) => {
      await sql(lifeTables);
      await live(url, { text, isBrief });
    },
  );
}
