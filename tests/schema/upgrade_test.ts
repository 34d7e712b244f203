/** Upgrades: from every version that was released, and from one made up here so that each kind of change is tried. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  DeadLetter,
  deadLetters,
  migrate,
  notify,
  schemaSql,
  schemaVersion,
} from "../../mod.ts";
import { generate } from "../../sql/generate.ts";
import { script } from "../../src/schema/script.ts";
import { spawn, test, type TestContext, withDatabaseName } from "../harness/mod.ts";
import { role } from "./_support/role.ts";

const empty = { schema: false };

/** The files of today, by path. */
const files: Readonly<Record<string, string>> = JSON.parse(await generate());

/** Replaces text that has to be there. */
function replaced(path: string, from: string, to: string): Record<string, string> {
  const text = files[path]!;
  assert(text.includes(from), `sql/${path} holds: ${from}`);
  return { [path]: text.replace(from, to) };
}

/** A schema of before the first release: without a column, an index and a function, with one that is gone now. */
const earlier = script(
  {
    ...files,
    "tables.sql": replaced(
      "tables.sql",
      `  to_id bigint not null,\n  created_at timestamptz not null default clock_timestamp()\n);\n\n-- The positions`,
      `  to_id bigint not null\n);\n\n-- The positions`,
    )["tables.sql"]!.replace("create index dedupe_by_time on hark.dedupe (expires_at);\n", ""),
    ...replaced("rights.sql", "'has_older',", ""),
    "read/gone.sql":
      `create function hark.gone(n integer) returns integer language sql as $$ select n $$;`,
    ...replaced(
      "watch/definition.sql",
      "-- Created by hark.watch.",
      "-- Made by an earlier hark.watch;",
    ),
  },
  "earlier",
  "0.0.9",
);

/** What brings it up to today. */
const later = script(
  {
    ...files,
    [`upgrades/${schemaVersion}.sql`]: `
      alter table hark.replays add column created_at timestamptz not null default clock_timestamp();
      create index dedupe_by_time on hark.dedupe (expires_at);`,
  },
  "later",
);

/** The versions to upgrade from, and the statement that does it. */
const upgrades: [version: string, install: string, upgrade: () => Promise<string>][] = [
  ["0.0.9, made up", earlier, () => Promise.resolve(later)],
];
for await (const { name } of Deno.readDir(new URL("./released/", import.meta.url))) {
  if (!name.endsWith(".sql")) continue;
  const text = await Deno.readTextFile(new URL(`./released/${name}`, import.meta.url));
  upgrades.push([name.slice(0, -4), text, schemaSql]);
}

const psqlDump = async (url: string) => {
  await using child = spawn("pg_dump", ["--schema-only", "--schema=hark", "-d", url]);
  const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
  assert.equal(code, 0, stderr);
  // A random token, and a digest's row is data.
  return stdout.replaceAll(/^\\(un)?restrict .*$/gm, "");
};

/** Whether pg_dump is there and not older than the server. */
async function canDump({ sql }: TestContext): Promise<boolean> {
  const [{ major }] = await sql(
    "select current_setting('server_version_num')::int / 10000 as major",
  );
  const text = await new Deno.Command("pg_dump", { args: ["--version"] }).output()
    .then(({ stdout }) => new TextDecoder().decode(stdout), () => "");
  return Number(/ (\d+)/.exec(text)?.[1] ?? 0) >= major;
}

for (const [version, install, upgrade] of upgrades) {
  test(
    `a database of version ${version} is upgraded while it is in use, and nothing is lost`,
    empty,
    async (context) => {
      const { sql, url } = context;
      await sql(install);
      const [publisher, consumer, both, revoked] = await Promise.all(
        Array.from({ length: 4 }, () => role(context)),
      );
      for (const { name } of [publisher!, both!, revoked!]) {
        await sql("select hark.grant_publish($1)", [name]);
      }
      for (const { name } of [consumer!, both!]) await sql("select hark.grant_consume($1)", [name]);
      await sql("select hark.grant_operate($1)", [consumer!.name]);
      await sql(`revoke execute on all functions in schema hark from ${revoked!.name}`);
      // Before any of it is asked for its version: the program is today's, the schema is not.
      const plain = await context.client();
      const said = async (text: string) => (await plain.query(text)).rows;
      await said("create table users (id int primary key, name text)");
      await said("select hark.watch('users', 'users')");
      await said("insert into users values (1, 'before')");
      await said("select hark.register('c', array['c', 'users'], 'beginning')");
      await said(
        "select hark.notify('c', to_jsonb(n), 'k' || n % 3) from generate_series(1, 20) n",
      );
      await said("select hark.notify_at('c', '\"due\"', null, null, now() - interval '1 second')");
      const late = await context.client();
      await late.query("begin; select hark.notify('c', '\"late\"')");

      await plain.query(await upgrade());
      assert.deepEqual(await sql("select version from hark.schema_version"), [{
        version: schemaVersion,
      }]);
      await late.query("select hark.notify('c', '\"later\"'); commit");
      await said("insert into users values (2, 'after')");

      const db = context.use(await connect(url));
      const seen: unknown[] = [];
      await new Consumer(db, {
        id: "c",
        channels: ["c", "users"],
        handle(n) {
          seen.push(n.isDatabaseChange ? (n.newData as { name: string }).name : n.payload);
          if (n.payload === 3) throw new DeadLetter("no");
        },
      }).drain();
      const expected = [
        "before",
        "after",
        "due",
        "late",
        "later",
        ...Array(20).keys().map((n) => n + 1),
      ];
      assert.deepEqual(seen.map(String).sort(), expected.map(String).sort());
      assert.equal((await deadLetters(db)).length, 1);
      const [{ drift }] = await sql("select drift from hark.watches()");
      assert.deepEqual(drift, [], "the trigger function is today's");

      const rights = async (name: string) =>
        (await sql(
          `select p.oid::regprocedure::text as name from pg_proc p
          where p.pronamespace = 'hark'::regnamespace and has_function_privilege($1, p.oid, 'execute') order by 1`,
          [name],
        )).map((row) => row.name);
      const fresh = await role(context);
      await sql("select hark.grant_publish($1)", [fresh.name]);
      assert.deepEqual(await rights(publisher!.name), await rights(fresh.name));
      await sql("select hark.grant_consume($1)", [fresh.name]);
      assert.deepEqual(await rights(both!.name), await rights(fresh.name));
      assert((await rights(consumer!.name)).some((name) => name.startsWith("hark.has_older(")));
      assert.deepEqual(await rights(revoked!.name), [], "a plain REVOKE stays");
      await notify(context.use(await connect(publisher!.url)), "c", 1);
    },
  );

  test(
    `the schema upgraded from version ${version} is the one that a new install makes`,
    empty,
    async (context) => {
      const { sql, url, database } = context;
      if (!await canDump(context)) {
        return console.log("skipped: pg_dump is not on this machine, or older than the server");
      }
      await sql(install);
      const client = await context.client();
      await client.query(await upgrade());
      const upgraded = await psqlDump(url);
      await client.query(await upgrade());
      assert.equal(await psqlDump(url), upgraded, "the second time changes nothing");
      const other = `${database}_fresh`;
      await sql(`create database ${other} template template0`);
      try {
        const there = withDatabaseName(url, other);
        await using db = await connect(there);
        await migrate(db);
        assert.equal(upgraded, await psqlDump(there));
      } finally {
        await sql(`drop database ${other} with (force)`);
      }
    },
  );
}

test(
  "functions of the same version that differ are replaced, and those that are gone are dropped",
  empty,
  async (context) => {
    const db = context.use(await connect(context.url));
    const [first, second] = [
      script({
        ...files,
        "read/gone.sql": "create function hark.gone() returns integer language sql as 'select 1';",
      }, "a"),
      await schemaSql(),
    ];
    await context.sql(first);
    assert.deepEqual(await migrate(db), { from: schemaVersion, to: schemaVersion, changed: true });
    assert.deepEqual(await context.sql("select to_regproc('hark.gone') as gone"), [{ gone: null }]);
    // Also in one transaction with the install, after which a function lies where this transaction put it.
    const client = await context.client();
    await client.query("drop schema hark cascade");
    await client.query("begin");
    await client.query(first);
    await client.query("savepoint before");
    await client.query(second);
    await client.query("commit");
    assert.deepEqual(await migrate(db), { from: schemaVersion, to: schemaVersion, changed: false });
    await notify(db, "c", 1);
  },
);

test("every function's body is valid, also those that nothing has called yet", async ({ sql }) => {
  await sql("set check_function_bodies = on");
  for (const [path, text] of Object.entries(files)) {
    if (/^(?:read|publish|deliver|operate|watch)\/|^rights/.test(path)) {
      await sql(`set search_path = pg_catalog, pg_temp;\n${text}`);
    }
  }
});

test("a worker that runs when a later version comes ends, and says that the schema is newer", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", lease: 2_000, handle() {} });
  const running = consumer.run();
  running.catch(() => {});
  await consumer.ready;
  await notify(db, "c", 1);
  await context.sql(script(
    {
      ...files,
      "upgrades/7.0.0.sql": "drop function hark.heartbeat",
      "deliver/lease.sql": files["deliver/lease.sql"]!.replaceAll(
        "hark.heartbeat(",
        "hark.attend_anew(",
      ),
      ...replaced("rights.sql", "'heartbeat'", "'attend_anew'"),
    },
    "newer",
    "7.0.0",
  ));
  await assert.rejects(running, { code: "SCHEMA_NEW" });
});
