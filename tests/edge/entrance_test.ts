/** How a drain that does not wait becomes a worker, and how soon it learns that it does not. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  type Database,
  notify,
  notifyMany,
  pause,
  type Queryable,
  resume,
  setPartitions,
} from "../../mod.ts";
import { drain } from "../../src/edge/mod.ts";
import { deferred, patient, test, type TestContext, until, within } from "../harness/mod.ts";
import { Running } from "../faults/_support/running.ts";
import { role } from "../schema/_support/role.ts";
import { connections, statements, talkative } from "./_support/talkative.ts";

const at = { wait: false } as const;

const consumer = (db: Queryable, options: ConsumerOptions = {}) =>
  new Consumer(db, { id: "c", channels: "c", handle() {}, ...options });

const nothing = { handled: 0, failed: 0, dead: 0, left: 0, more: false };

async function registered(
  { url, use }: TestContext,
  count: number,
  options: ConsumerOptions = {},
): Promise<Database> {
  const db = use(await connect(url));
  await drain(consumer(db, options));
  const many = Array.from({ length: count }, (_, n) => ({ channel: "c", payload: n, key: `${n}` }));
  await notifyMany(db, many);
  return db;
}

/** The partitions with the owners that they have, and how many workers there are. */
async function owned({ sql }: TestContext) {
  return await sql(
    `select count(owner)::integer as owned, sum(crashes)::integer as crashes,
      (select count(*) from hark.workers)::integer as workers
     from hark.partitions where consumer = 'c'`,
  );
}

for (
  const [what, known, most] of [
    ["the six without a partition send one statement", true, 1],
    // To enter, to look where the log is, to register, and to enter again.
    ["of a new consumer, the six without a partition send four statements", false, 4],
  ] as const
) {
  test(`of eight drains at once, ${what}, on no new connection`, {
    schema: false,
  }, async ({ use }) => {
    const server = use(await talkative());
    const db = use(await connect(server.url));
    if (known) await drain(consumer(db, { partitions: 2 }));
    const many = Array.from({ length: 40 }, (_, n) => ({ channel: "c", payload: n, key: `${n}` }));
    await notifyMany(db, many);
    const names = Array.from({ length: 8 }, (_, n) => `hark-test-${n}`);
    const dbs = await Promise.all(names.map(async (applicationName) => {
      return use(await connect(server.url, { applicationName, poolSize: 1 }));
    }));
    const before = await Promise.all(
      names.map(async (name) => (await statements(server, name)).length),
    );
    const open = deferred("six to return");
    let busy = 0;
    const drains = dbs.map(async (one) => {
      const result = await drain(
        consumer(one, { partitions: 2, handle: () => open.wait({ deadline: 30_000 }) }),
        at,
      );
      if (result.handled === 0 && ++busy === 6) open.resolve();
      return result;
    });
    const results = await within(Promise.all(drains), { deadline: 40_000, what: "eight drains" });
    const lost = names.filter((_, n) => results[n]!.handled === 0);
    assert.equal(lost.length, 6);
    for (const [n, name] of names.entries()) {
      if (!lost.includes(name)) continue;
      assert.deepEqual(results[n], { ...nothing, reason: "busy" });
      const sent = (await statements(server, name)).slice(before[n]);
      // One that asks when another has registered the consumer is told at once.
      assert(sent.length === 1 || sent.length === most, sent.join("\n"));
      assert.equal(await connections(server, name), 1);
    }
    assert.equal(results.reduce((sum, { handled }) => sum + handled, 0), 40, "the two handle all");
  });
}

test(
  "a drain beside a worker that serves all sends one statement; with no connection yet, it opens one",
  {
    schema: false,
  },
  async ({ use }) => {
    const server = use(await talkative());
    const db = use(await connect(server.url));
    const one = consumer(db, { partitions: 4 });
    const running = one.run();
    await one.ready;
    await until(async () =>
      (await server.sql("select hark.free_for('c', gen_random_uuid()) as free"))[0].free.length ===
        0
    );
    const name = "hark-test";
    const other = use(await connect(server.url, { applicationName: name, poolSize: 1 }));
    // The pool's only connection is taken.
    await other.transaction(async () => {
      const before = await statements(server, name);
      assert.deepEqual(await drain(consumer(other), at), { ...nothing, reason: "busy" });
      const sent = (await statements(server, name)).slice(before.length);
      // The first gives the new connection its settings.
      assert.deepEqual([sent.length, await connections(server, name)], [2, 2], sent.join("\n"));
    });
    await one.stop();
    await running;
  },
);

test("a drain that was told that others serve all leaves no connection behind for the next ones", async (context) => {
  const serving = consumer(await registered(context, 0));
  const running = serving.run();
  await serving.ready;
  const url = new URL(context.url);
  url.searchParams.set("application_name", "drains");
  const db = context.use(await connect(url.href));
  const open = async () => {
    const rows = await context.sql(
      "select pid from pg_stat_activity where application_name = 'drains'",
    );
    return rows.map(({ pid }) => pid);
  };
  await until(async () => (await drain(consumer(db), at)).reason === "busy");
  await serving.stop();
  await running;
  const pool = await open();
  await notify(db, "c", 1);
  assert.equal((await drain(consumer(db), at)).handled, 1);
  await until(async () => (await open()).every((pid) => pool.includes(pid)), {
    what: "no connection but the pool's",
  });
});

/** What many workers are told that enter at once. */
async function entries({ client }: TestContext, count: number): Promise<string[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => client()));
  const definition = { channels: ["c"], filter: null, transactional: false };
  const told = await Promise.all(clients.map(async (one) => {
    const { rows: [{ entry }] } = await one.query(
      "select hark.enter('c', gen_random_uuid(), gen_random_uuid(), 15000, 'p', $1, 0) as entry",
      [definition],
    );
    await one.end();
    return entry;
  }));
  return told.toSorted();
}

test("of many workers that enter at once, as many do as there are partitions", async (context) => {
  await registered(context, 0, { partitions: 3 });
  for (let round = 0; round < 5; round++) {
    assert.deepEqual(await entries(context, 12), [
      ...Array(9).fill("busy"),
      ...Array(3).fill("entered"),
    ]);
    assert.deepEqual(await owned(context), [{ owned: 3, crashes: 0, workers: 3 }]);
    await context.sql("select hark.leave('c', owner, process, true) from hark.workers");
    assert.deepEqual(await owned(context), [{ owned: 0, crashes: 0, workers: 0 }]);
  }
});

test("of workers that do not wait for each other to enter, as many do as there are partitions", async (context) => {
  await registered(context, 0, { partitions: 3 });
  const stranger = await context.client();
  await stranger.query("select pg_advisory_lock(hashtextextended('c', 5238))");
  assert.deepEqual(await entries(context, 12), [
    ...Array(9).fill("busy"),
    ...Array(3).fill("entered"),
  ]);
  assert.deepEqual(await owned(context), [{ owned: 3, crashes: 0, workers: 3 }]);
  assert.deepEqual(await context.sql("select count(*)::integer as n from hark.processes"), [{
    n: 3,
  }]);
});

test("drains at once of a consumer that is new, or has other channels, register it and share it", async (context) => {
  const db = context.use(await connect(context.url));
  for (const channels of [["c"], ["c", "d"]]) {
    await notifyMany(db, Array.from({ length: 20 }, (_, n) => ({ channel: "c", key: `${n}` })));
    const open = deferred("six to return");
    let busy = 0;
    const results = await within(
      Promise.all(Array.from({ length: 8 }, async () => {
        const handle = () => open.wait({ deadline: 30_000 });
        const result = await drain(consumer(db, { channels, partitions: 2, handle }), at);
        if (result.handled === 0 && ++busy === 6) open.resolve();
        return result;
      })),
      { deadline: 40_000, what: "eight drains" },
    );
    assert.equal(results.reduce((sum, { handled }) => sum + handled, 0), 20);
    const [{ known }] = await context.sql("select hark.channels_of('c') as known");
    assert.deepEqual(known.toSorted(), channels);
  }
});

test("a higher version of the same definition is stored, and a lower one drains", async (context) => {
  const db = await registered(context, 1, { version: 1 });
  assert.equal((await drain(consumer(db, { version: 2 }), at)).handled, 1);
  const version = "select version from hark.consumers";
  assert.deepEqual(await context.sql(version), [{ version: 2 }]);
  await notify(db, "c", 1);
  assert.equal((await drain(consumer(db, { version: 1 }), at)).handled, 1);
  assert.deepEqual(await context.sql(version), [{ version: 2 }]);
});

test("a drain with other channels beside a worker that serves all is told so, or takes over with a higher version", async (context) => {
  const db = await registered(context, 0, { version: 1 });
  const first = context.use(new Running(db, { version: 1 }));
  await first.consumer.ready;
  await until(async () => (await drain(consumer(db, { version: 1 }), at)).reason === "busy");
  const other = (version: number) => drain(consumer(db, { channels: ["d"], version }), at);
  await assert.rejects(other(1), { code: "CONFLICT" });
  await assert.rejects(other(0), { code: "OUTDATED" });
  await notify(db, "d", 1);
  const channels = () => context.sql("select channels from hark.consumers");
  assert.deepEqual(await channels(), [{ channels: ["c"] }]);
  await other(2);
  assert.deepEqual(await channels(), [{ channels: ["d"] }]);
});

test("a drain is told that the definition has changed while it entered, though no worker serves", async (context) => {
  const db = await registered(context, 3, { version: 1 });
  const client = await context.client();
  await client.query("begin");
  await client.query("lock table hark.processes in share mode"); // nothing enters
  const drained = drain(consumer(db, { version: 1 }), at);
  const entering = `select from pg_stat_activity
    where datname = current_database() and query ~ 'hark.enter' and wait_event_type = 'Lock'`;
  await until(async () => (await context.sql(entering)).length > 0, { what: "the drain to enter" });
  await context.sql("select hark.register('c', array['d'], version => 2)");
  await client.query("rollback");
  await assert.rejects(within(drained), { code: "OUTDATED" });
  assert.deepEqual(await owned(context), [{ owned: 0, crashes: 0, workers: 0 }]);
});

test("a drain takes over from a dead worker once its lease has ended, and not before", async (context) => {
  const db = await registered(context, 3);
  const dead = "'00000000-0000-0000-0000-000000000001'";
  await context.sql(
    `select hark.enter('c', ${dead}, ${dead}, 3600000, 'dead:1',
      '{"channels": ["c"], "filter": null, "transactional": false}', 0)`,
  );
  assert.deepEqual(await drain(consumer(db), at), { ...nothing, reason: "busy" });
  await context.sql("update hark.processes set lease_until = clock_timestamp()");
  assert.deepEqual(await drain(consumer(db), at), { ...nothing, handled: 3, reason: "done" });
});

test("what is free is left to a living worker that is about to claim it", async (context) => {
  const db = await registered(context, 3);
  const next = "'00000000-0000-0000-0000-000000000001'";
  await context.sql(
    `insert into hark.processes values (${next}, null, 'next:1', clock_timestamp() + interval '1 hour')`,
  );
  await context.sql(`insert into hark.workers values ('c', ${next}, ${next})`);
  assert.deepEqual(await drain(consumer(db), at), { ...nothing, reason: "busy" });
  await context.sql(`select hark.leave('c', ${next}, ${next})`);
  assert.equal((await drain(consumer(db), at)).handled, 3);
});

test("a paused consumer is told as paused, and serves when it is resumed", async (context) => {
  const db = await registered(context, 3);
  await pause(db, "c");
  const { handled, reason } = await drain(consumer(db), at);
  assert.deepEqual([handled, reason], [0, "paused"]);
  await resume(db, "c");
  assert.equal((await drain(consumer(db), at)).handled, 3);
});

test("a drain carries out a change of the number of partitions that was left pending", async (context) => {
  const db = await registered(context, 20, { partitions: 2 });
  // The two partitions are at different positions.
  await context.sql("update hark.partitions set after_id = 1 where partition = 0");
  assert.equal(await setPartitions(db, "c", 5), "pending");
  await notifyMany(db, Array.from({ length: 20 }, (_, n) => ({ channel: "c", key: `${n}` })));
  let handled = 0;
  await until(async () => {
    const result = await drain(consumer(db), at);
    handled += result.handled;
    return result.reason === "done";
  }, { what: "drains to be done" });
  assert.equal(handled, 40);
  assert.deepEqual(
    await context.sql("select partitions, next_partitions from hark.consumers"),
    [{ partitions: 5, next_partitions: null }],
  );
});

test("if another transaction has locked a partition, a drain serves the others", async (context) => {
  const db = await registered(context, 20, { partitions: 2 });
  const client = await context.client();
  await client.query("begin");
  await client.query("select from hark.partitions where partition = 0 for update");
  const first = await within(drain(consumer(db), at), { deadline: 20_000 });
  assert.equal(first.reason, "busy");
  assert(first.handled > 0 && first.handled < 20, `${first.handled}`);
  await client.query("rollback");
  assert.equal(first.handled + (await drain(consumer(db), at)).handled, 20);
});

test("a drain enters though a role without rights holds the advisory lock of entering", async (context) => {
  const db = await registered(context, 20, { partitions: 2 });
  const stranger = await context.client((await role(context)).url);
  const { rows } = await stranger.query("select pg_advisory_lock(hashtextextended('c', 5238))");
  assert.equal(rows.length, 1);
  const { handled } = await within(drain(consumer(db), at), { deadline: 20_000 });
  assert.equal(handled, 20);
});

/** A connection whose `drain` calls `then` when it has entered. */
function entering(client: Queryable, then: () => void): Queryable {
  return {
    async query(text, values) {
      const result = await client.query(text, values);
      if (/hark\.enter/.test(text)) then();
      return result;
    },
  };
}

test("a drain that is stopped when it has entered gives its partition back", async (context) => {
  await registered(context, 3);
  const stop = new AbortController();
  const db = entering(await context.client(), () => stop.abort());
  const { handled, reason } = await drain(consumer(db), { ...at, signal: stop.signal });
  assert.deepEqual([handled, reason], [0, "stopped"]);
  assert.deepEqual(await owned(context), [{ owned: 0, crashes: 0, workers: 0 }]);
});

test("a drain that fails when it has entered gives its partition back", async (context) => {
  await registered(context, 3);
  let fails = false;
  const client = entering(await context.client(), () => fails = true);
  const db: Queryable = {
    query(text, values) {
      if (fails && /hark\.rebase/.test(text)) throw new Error("no more connections");
      return client.query(text, values);
    },
  };
  await assert.rejects(drain(consumer(db), at), /no more connections/);
  assert.deepEqual(await owned(context), [{ owned: 0, crashes: 0, workers: 0 }]);
});

test("a drain whose idle connection turns out to be lost enters on another one", async (context) => {
  const db = await registered(context, 3);
  const client = await context.client();
  await client.query("begin");
  await client.query("lock table hark.partitions in access exclusive mode");
  const drained = drain(consumer(db), at);
  const waiting = `select pid from pg_stat_activity
    where datname = current_database() and query ~ 'hark.enter' and wait_event_type = 'Lock'`;
  const pid = await until(async () => (await context.sql(waiting))[0]?.pid, {
    what: "the drain to wait for the lock",
  });
  await context.sql("select pg_terminate_backend($1, 5000)", [pid]);
  await client.query("rollback");
  assert.equal((await within(drained, { deadline: 20_000 })).handled, 3);
});

test("a drain that waits for a lock to enter returns at its deadline", async (context) => {
  const db = await registered(context, 1);
  const client = await context.client();
  await client.query("begin");
  await client.query("lock table hark.partitions in access exclusive mode");
  const deadline = patient(500);
  const result = await within(drain(consumer(db, { lease: 1000 }), { ...at, deadline }), {
    deadline: 4000,
    what: "a drain to return",
  });
  assert.deepEqual(result, { ...nothing, more: true, reason: "deadline" });
  await client.query("rollback");
  // The server may have carried the statement out. Then the partition is free when the lease ends.
  const rest = await within(drain(consumer(db, { lease: 1000 })), { deadline: 30_000 });
  assert.equal(rest.handled, 1);
});

test("a schema that does not fit is refused as for any worker", async (context) => {
  const db = await registered(context, 0);
  const fails = (code: string) => assert.rejects(drain(consumer(db), at), { code });
  await context.sql("update hark.schema_version set version = '999.0.0'");
  await fails("SCHEMA_NEW");
  await context.sql("update hark.schema_version set version = '0.0.1'");
  await fails("SCHEMA_OLD");
  await context.sql("drop schema hark cascade");
  await fails("NO_SCHEMA");
});
