/**
 * What roles without rights, or with a publisher's, can hold while others work: the table in
 * docs/internals/roles.md.
 */

import assert from "node:assert/strict";
import {
  cleanup,
  connect,
  Consumer,
  migrate,
  notify,
  status,
  unwatch,
  watch,
  watches,
} from "../../mod.ts";
import { Running } from "../faults/_support/running.ts";
import { type Client, test, type TestContext, until, within } from "../harness/mod.ts";
import { asleep } from "../waking/_support/sleeping.ts";
import { role } from "./_support/role.ts";

/** Runs `hold` as a role, in a transaction that stays open, then sees everybody else at work. */
async function beside(
  context: TestContext,
  grants: readonly string[],
  hold: (stranger: Client) => Promise<void>,
): Promise<void> {
  const { sql, url, use } = context;
  const { name, url: theirs } = await role(context);
  for (const grant of grants) await sql(`select hark.grant_${grant}($1)`, [name]);
  await sql("create table done (id bigint); create table watched (id int primary key)");
  const db = use(await connect(url));
  const running = use(new Running(db, { id: "live" }));
  const transactional = {
    id: "exact",
    channels: "c",
    transactional: true,
    handle: async ({ id }: { id: number }, { tx }: { tx: typeof db }) => {
      await tx.query("insert into done values ($1)", [id]);
    },
  };
  const writing = use(new Running(db, transactional as never));
  await notify(db, "c", "before");
  await Promise.all([running.atLeast(1), writing.atLeast(1)]);
  const stranger = await context.client(theirs);
  await stranger.query("begin");
  await hold(stranger);

  await notify(db, "c", "now");
  await notify(db, "c", "later", { delay: 1 });
  await Promise.all([running.atLeast(3), writing.atLeast(3)]);
  // Those that come now: a worker, a drain, a watch, an operator, an install.
  await using second = new Running(db, { id: "second" });
  await second.atLeast(3);
  assert.equal(await new Consumer(db, { id: "third", channels: "c", handle() {} }).drain(), 3);
  assert.equal((await watch(db, "watched")).outcome, "created");
  assert.equal((await watches(db)).length, 1);
  assert.equal((await status(db)).consumers.length, 4);
  assert.equal(await unwatch(db, "watched"), true);
  assert.equal((await migrate(db)).changed, false);
  await sql("update hark.schema_version set functions = 'of an earlier build'");
  assert.equal((await within(migrate(db), { what: "an upgrade to end" })).changed, true);
}

/** Tries a statement, and goes on in the transaction whatever comes of it. */
async function attempt(client: Client, statement: string): Promise<boolean> {
  await client.query("savepoint here");
  try {
    await client.query(statement);
    return true;
  } catch {
    await client.query("rollback to here");
    return false;
  }
}

/** Every advisory lock with a number that can be computed or seen. */
async function advisory(client: Client): Promise<void> {
  for (const name of ["gate", "deliver_due", "extend", "watch", "delivery_lock", "segments_lock"]) {
    await client.query("select pg_try_advisory_lock(hashtextextended($1, 5237))", [`hark.${name}`]);
  }
  await client.query(
    "select pg_try_advisory_lock(hashtextextended('hark.watch', 'watched'::regclass::oid::bigint))",
  );
  await client.query("select pg_try_advisory_lock(4750199211)");
  // A handler's number is seen while a handler runs. Between two of them it can be taken.
  await client.query(
    `select pg_try_advisory_lock((l.classid::bigint << 32) | l.objid::bigint), pg_try_advisory_lock_shared((l.classid::bigint << 32) | l.objid::bigint)
     from pg_locks l where l.locktype = 'advisory' and l.objsubid = 1`,
  );
}

async function tables({ sql }: TestContext): Promise<string[]> {
  const rows = await sql(
    `select c.relname from pg_class c where c.relnamespace = 'hark'::regnamespace and c.relkind in ('r', 'p', 'v')`,
  );
  return rows.map(({ relname }) => relname);
}

const modes = [
  "row share",
  "row exclusive",
  "share update exclusive",
  "share",
  "share row exclusive",
  "exclusive",
  "access exclusive",
];

test("a role that may only connect holds up no other, whatever it locks", async (context) => {
  const owners = await tables(context);
  await beside(context, [], async (stranger) => {
    await advisory(stranger);
    const { rows } = await context.admin.query("select owner from hark.workers");
    for (const { owner } of rows) {
      await stranger.query("select pg_try_advisory_lock(hashtextextended($1, 5237))", [owner]);
    }
    await stranger.query(
      "listen hark; listen hark_control; notify hark, 'c'; notify hark_control, ''",
    );
    for (const table of owners) {
      for (const mode of ["access share", ...modes]) {
        assert(!await attempt(stranger, `lock table hark.${table} in ${mode} mode`), table);
      }
      assert(!await attempt(stranger, `prepare p_${table} as delete from hark.${table}`), table);
    }
  });
});

test("a role that may publish holds up no other, whatever it locks", async (context) => {
  const owners = await tables(context);
  const [{ version }] = await context.sql(
    "select current_setting('server_version_num')::int as version",
  );
  await beside(context, ["publish"], async (publisher) => {
    await advisory(publisher);
    for (const table of owners) {
      for (const mode of modes) {
        const may = await attempt(publisher, `lock table hark.${table} in ${mode} mode`);
        // Those who may insert may take that lock, and weaker ones since PostgreSQL 16.
        const weak = mode === "row exclusive" || mode === "row share" && version >= 160_000;
        assert.equal(may, table === "published" && weak, `${table} ${mode}`);
      }
      // PostgreSQL looks at rights when it executes, and has locked the table then.
      await attempt(publisher, `prepare p_${table} as delete from hark.${table}`);
    }
    await publisher.query(
      "select hark.notify('other'), hark.notify_at('other', deliver_at => now())",
    );
    await publisher.query("select hark.notify_once('other', dedupe_key => 'k')");
    await publisher.query("select * from hark.watches()");
  });
});

test("what a role that may consume holds in an open transaction holds up what its guide says, and no more", async (context) => {
  const { name, url } = await role(context);
  await context.sql("select hark.grant_consume($1)", [name]);
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { id: "live" }));
  await notify(db, "c", 1);
  await running.atLeast(1);
  // Or it could not fall asleep: that is what the guide says.
  await asleep(context);
  const holder = await context.client(url);
  await holder.query("begin");
  await holder.query("select hark.sleep(gen_random_uuid(), array['c'], 1, 60000)");
  await holder.query("select * from hark.deliver_due()");
  // What is due is not delivered by others, as the lock of delivering is held. All else goes on.
  // The worker may be quicker with one of them.
  let held = 0;
  await until(async () => {
    await notify(db, "held", ++held, { delay: 1 });
    return (await holder.query("select moved from hark.deliver_due()")).rows[0].moved > 0;
  });
  await notify(db, "c", 2);
  await running.atLeast(2);
  await holder.query("rollback");
  await until(async () =>
    (await context.sql("select from hark.log where channel = 'held'")).length === held
  );
});

test("cleaning does not wait for long for a publisher's lock, and says what it waited for", async (context) => {
  const { name, url } = await role(context);
  await context.sql("select hark.grant_publish($1)", [name]);
  const publisher = await context.client(url);
  await publisher.query("begin");
  await publisher.query("prepare p as delete from hark.consumers");
  const db = context.use(await connect(context.url));
  await notify(db, "c");
  await assert.rejects(
    cleanup(db, { olderThan: 0 }),
    /open transaction holds a lock on hark\.consumers/,
  );
  await publisher.query("rollback");
  assert.equal((await cleanup(db, { olderThan: 0 })).removed, 1);
});

test("a handler's transaction begins although another role holds its worker's advisory lock", async (context) => {
  const { url } = await role(context);
  const stranger = await context.client(url);
  const db = context.use(await connect(context.url));
  await context.sql("create table done (id bigint)");
  await using running = new Running(db, {
    transactional: true,
    handle: async (_n, { tx }) => {
      const { rows } = await tx!.query("select current_setting('hark.handling') as owner");
      // Between two handlers of this worker it is free, and a stranger may wait for that moment.
      stranger.query("select pg_advisory_lock(hashtextextended($1, 5237))", [rows[0].owner])
        .catch(() => {});
    },
  });
  await notify(db, "c");
  await running.atLeast(1);
  await context.sql("select 1");
  for (let n = 2; n <= 4; n++) {
    await notify(db, "c");
    await running.atLeast(n);
  }
});
