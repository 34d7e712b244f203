/** In a database where an event trigger bans changes of the schema. */

import assert from "node:assert/strict";
import {
  cleanup,
  connect,
  Consumer,
  installedVersion,
  migrate,
  unwatch,
  watch,
  watches,
} from "../../mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { said } from "../faults/_support/logs.ts";
import { test, type TestContext, until } from "../harness/mod.ts";

/** Bans every statement that changes a schema. */
async function ban({ sql, use }: TestContext): Promise<void> {
  await sql(`create function public.refuse() returns event_trigger language plpgsql as
    $$ begin raise exception 'change requests only: % is banned', tg_tag; end $$`);
  await sql("create event trigger ban on ddl_command_start execute function public.refuse()");
  use({
    [Symbol.asyncDispose]: async () => {
      await sql("alter event trigger ban disable").catch(() => {});
    },
  });
}

const banned = { code: "DATABASE", message: /change requests only: CREATE|DROP/ };

test("where changes of the schema are banned, cleanup does its work and reports it", async (context) => {
  const { sql, url, use } = context;
  const db = use(await connect(url));
  await publish(context, 1, 3);
  assert.equal(await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(), 3);
  // Segments are to be made and to be dropped.
  await sql("select setval('hark.log_id_seq', 5000000)");
  await ban(context);
  const begun = Date.now();
  const { removed, complete } = await cleanup(db, { olderThan: 0 });
  assert.deepEqual({ removed, complete }, { removed: 3, complete: true });
  assert.deepEqual(await sql("select from hark.log"), []);
  await said("warning", /could not .* of the log: change requests only/, begun);
});

test("where changes of the schema are banned, workers remove what a setting of retention says", async (context) => {
  const { sql, url, use } = context;
  await publish(context, 1, 3);
  assert.equal(
    await new Consumer(use(await connect(url)), { id: "c", channels: "c", handle() {} }).drain(),
    3,
  );
  await sql("select setval('hark.log_id_seq', 5000000)");
  await sql("select hark.set_retention('1 ms')");
  await ban(context);
  await until(async () => {
    await sql("update hark.retention set next_at = 'epoch'");
    await sql("select hark.apply_retention()");
    return (await sql("select from hark.log")).length === 0;
  });
});

test("where changes of the schema are banned, consumers run, past the last segment too", async (context) => {
  const { sql, url, use } = context;
  await ban(context);
  await sql("select setval('hark.log_id_seq', 5000000)");
  const running = use(new Running(use(await connect(url)), {}));
  await publish(context, 1, 2);
  await running.atLeast(2);
});

test("where changes of the schema are banned, watch and unwatch do nothing and give the reason", async (context) => {
  const { sql, url, use } = context;
  const db = use(await connect(url));
  await sql("create table kept (id int primary key); create table other (id int primary key)");
  await watch(db, "kept");
  await ban(context);
  await assert.rejects(watch(db, "other"), banned);
  await assert.rejects(unwatch(db, "kept"), banned);
  const [only, ...more] = await watches(db);
  assert.deepEqual([only!.table, only!.drift, more], ["public.kept", [], []]);
});

test("where changes of the schema are banned, migrate does nothing and gives the reason", {
  schema: false,
}, async (context) => {
  const db = context.use(await connect(context.url));
  await ban(context);
  await assert.rejects(migrate(db), banned);
  assert.equal(await installedVersion(db), undefined);
});
