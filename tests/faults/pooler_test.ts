/** Hark through a real pgbouncer in transaction mode: many clients on five connections of the server. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  connect,
  Consumer,
  migrate,
  type Notification,
  notify,
  setContext,
  watch,
} from "../../mod.ts";
import { arePooled } from "../../src/database/pooled.ts";
import { Session } from "../../src/database/session.ts";
import { assertRight, type Entry, judge, readLedger } from "../delivery/_support/ledger.ts";
import { committed, Publishers, publishersSql } from "../delivery/_support/publishers.ts";
import { statements, talkative } from "../edge/_support/talkative.ts";
import {
  type Client,
  Inbox,
  scratch,
  spawnDeno,
  test,
  type TestContext,
  until,
} from "../harness/mod.ts";
import {
  assertUntouched,
  pgbouncer,
  type Pooler,
  serverConnections,
  startPooler,
} from "./_support/pooler.ts";
import { NEVER_POLL } from "./_support/running.ts";

const options = { ignore: pgbouncer === undefined };

/** A pooler, and the URL of the test's database through it. */
async function pooled(context: TestContext): Promise<{ pooler: Pooler; url: string }> {
  const pooler = context.use(await startPooler(context.url));
  return { pooler, url: pooler.through(context.url) };
}

/** How many connections the pooler holds to the test's database. */
const connections = ({ sql, database }: TestContext) =>
  sql(
    `select count(*)::integer as count from pg_stat_activity
      where datname = $1 and backend_type = 'client backend' and application_name <> 'hark harness'`,
    [database],
  ).then(([{ count }]) => count as number);

test(
  "of 12 writers whose transactions commit out of order, nothing is lost or doubled",
  options,
  async (context) => {
    const { url } = await pooled(context);
    const db = context.use(await connect(url, { listen: false }));
    const handled: number[] = [];
    const consumer = new Consumer(db, {
      id: "c",
      channels: ["often", "rare"],
      pollInterval: 30,
      handle: ({ id }) => void handled.push(id),
    });
    const running = consumer.run();
    const writers = await Promise.all(Array.from({ length: 12 }, () => context.client(url)));
    let left = 150;
    await Promise.all(writers.map(async (writer) => {
      while (left-- > 0) await writer.query(transaction());
    }));
    const ids = (await context.sql("select id::integer from hark.log order by id"))
      .map(({ id }) => id as number);
    await until(() => handled.length >= ids.length, { what: `${ids.length} to be handled` });
    await consumer.stop();
    await running;
    assert.deepEqual(handled.toSorted((a, b) => a - b), ids);
    assert(ids.length > 300, `${ids.length} were published`);
    const count = await connections(context);
    assert(count <= serverConnections, `${count} connections`);
  },
);

/** A transaction as one message: some notifications, a part of them undone, and a while before its end. */
function transaction(): string {
  const some = (max: number) => 1 + Math.floor(Math.random() * max);
  const publish = (count: number) =>
    `select hark.notify(case when n % 5 = 0 then 'rare' else 'often' end, '{}', (n % 50)::text)
      from generate_series(1, ${count}) n;`;
  const undone = Math.random() < 0.3 ? `savepoint a; ${publish(3)} rollback to savepoint a;` : "";
  const end = Math.random() < 0.1 ? "rollback" : "commit";
  const wait = `select pg_sleep(${(Math.random() * 0.02).toFixed(4)});`;
  return `begin; ${publish(some(6))} ${undone} ${wait} ${publish(some(3))} ${end};`;
}

test(
  "workers and publishers on one pool: all is handled, each key in order",
  options,
  async (context) => {
    const { url } = await pooled(context);
    await context.sql(publishersSql);
    const entries: Entry[] = [];
    const note = (what: Entry["what"], worker: number, n: Notification) => {
      const { version, token } = n.payload as { version: number; token: string };
      const { id, key, attempt } = n;
      entries.push({
        what,
        consumer: "c",
        worker,
        id,
        key,
        version,
        token,
        attempt,
        at: Date.now(),
      });
    };
    const workers = await Promise.all([1, 2, 3].map(async (worker) => {
      const db = context.use(await connect(url, { listen: false, poolSize: 1 }));
      const consumer = new Consumer(db, {
        id: "c",
        channels: "c",
        partitions: 4,
        concurrency: 2,
        pollInterval: 30,
        transactional: true,
        retry: { initial: 20 },
        async handle(n, { tx }) {
          note("began", worker, n);
          await tx.query("select pg_catalog.pg_sleep($1::text::float8)", [Math.random() * 0.005]);
          if (Math.random() < 0.01) {
            note("failed", worker, n);
            throw new Error("flaky");
          }
          note("ended", worker, n);
        },
      });
      return { consumer, running: consumer.run() };
    }));
    const publishers = new Publishers(url, { publishers: 6, slow: 0.01 });
    await until(async () => {
      const [row] = await context.sql("select count(*)::integer as count from hark.log");
      return row!.count >= 500;
    }, { what: "500 to be published" });
    await publishers.stop();
    const published = await committed(context);
    await until(() => judge(published, entries).missing.length === 0, {
      what: "all to be handled",
    });
    for (const { consumer, running } of workers) {
      await consumer.stop();
      await running;
    }
    assertRight("c", judge(published, entries));
    assert(published.length > 50, `${published.length} were published`);
  },
);

/** What the transactional consumer has done: how often each notification, and where a key is not in order. */
async function done({ sql }: TestContext): Promise<{ times: number[]; unordered: unknown[] }> {
  const rows = await sql(
    `select d.token, count(*)::integer as times from done d group by d.token`,
  );
  const unordered = await sql(
    `select key, version, before from (
        select key, version, lag(version) over (partition by key order by number) as before from done
      ) d
      where key is not null and version <= before`,
  );
  return { times: rows.map(({ times }) => times as number), unordered };
}

test(
  "of 50 drains at once, ten are killed and ten frozen: nothing is lost, and nothing transactional comes twice",
  { ...options, timeout: 240_000 },
  async (context) => {
    const { url } = await pooled(context);
    await context.sql(publishersSql);
    await context.sql(
      "create table done (number bigint generated always as identity, token uuid, key text, version integer)",
    );
    await context.sql(
      "select publish('c', case when n % 10 > 0 then 'k' || n % 40 end, gen_random_uuid()) from generate_series(1, 1000) n",
    );
    const published = await committed(context);
    await using folder = await scratch();
    const ledger = join(folder.path, "c.ledger");
    const handled =
      async () => [(await readLedger(ledger)).length, (await done(context)).times.length];
    const start = () => spawnDeno(["tests/faults/_support/drains.ts", url, "5", ledger]);
    await using stack = new AsyncDisposableStack();
    const processes = Array.from({ length: 10 }, () => stack.use(start()));
    await Promise.all(processes.map((one) => one.line(/^ready$/, { deadline: 60_000 })));
    await until(async () => Math.min(...await handled()) > 30, {
      deadline: 60_000,
      what: "the drains of both consumers to be at work",
    });
    const [killed, frozen, others] = [
      processes.slice(0, 2),
      processes.slice(2, 4),
      processes.slice(4),
    ];
    for (const one of frozen) one.kill("SIGSTOP");
    for (const one of killed) one.kill("SIGKILL");
    const atWork = await handled();
    // The server takes a moment to notice that the pooler has closed those of the dead in mid-transaction.
    await until(async () => await connections(context) <= serverConnections, {
      what: `at most ${serverConnections} connections of the pooler`,
    });
    for (const one of others) await one.line(/^drained /, { deadline: 60_000 });
    // A scheduler goes on: what the dead and the frozen held is taken over as their leases end.
    const wrong = async () => ({
      lost: judge(published, await readLedger(ledger)).missing.length,
      undone: published.length - (await done(context)).times.length,
    });
    await until(async () => {
      await using next = start();
      await next.line(/^drained /, { deadline: 60_000 });
      const { lost, undone } = await wrong();
      return lost + undone === 0;
    }, { deadline: 90_000, what: "the next drains to handle the rest" });
    for (const one of frozen) one.kill("SIGCONT");
    for (const one of frozen) await one.ended({ deadline: 60_000 });
    const verdict = judge(published, await readLedger(ledger));
    assertRight("c", verdict);
    const { times, unordered } = await done(context);
    assert.deepEqual([times.length, Math.max(...times), unordered], [published.length, 1, []]);
    await assertUntouched(url);
    console.log(
      `${published.length} published, 0 lost, ${verdict.repeats} repeats, 0 of them transactional; ` +
        `50 drains, 10 killed and 10 frozen after ${atWork.join(" and ")}`,
    );
  },
);

test(
  "a context for a session is refused, and one of a transaction reaches no other client",
  options,
  async (context) => {
    const { url } = await pooled(context);
    const clients = await Promise.all(Array.from({ length: 10 }, () => context.client(url)));
    await assert.rejects(setContext(clients[0]!, { by: "7" }, { forSession: true }), {
      code: "BAD_OPTION",
      message: /through a pooler or a proxy/,
    });
    await context.sql("create table users (id integer primary key, by integer)");
    await watch(await context.client(), "users", { key: "id" });
    let id = 0;
    const change = async (client: Client, by: number) => {
      await client.query("begin");
      if (by > 0) await setContext(client, { by });
      const own = ++id;
      await client.query("insert into users values ($1, $2)", [own, by]);
      await client.query(own % 3 === 0 ? "rollback" : "commit");
    };
    await Promise.all(clients.map(async (client, n) => {
      // Half of them have no context of their own.
      for (let times = 0; times < 8; times++) await change(client, n % 2 === 0 ? n + 1 : 0);
    }));
    const rows = await context.sql("select payload, headers from hark.log");
    assert(rows.length > 40);
    for (const { payload, headers } of rows) {
      assert.equal(headers?.by ?? 0, payload.new.by, JSON.stringify({ payload, headers }));
    }
    await assertUntouched(url);
  },
);

test(
  "a pooler is found out also while other clients use its connections",
  options,
  async (context) => {
    const { url } = await pooled(context);
    const busy = await Promise.all(Array.from({ length: 8 }, () => context.client(url)));
    const over = new AbortController();
    const loads = busy.map(async (client) => {
      while (!over.signal.aborted) await client.query("select pg_sleep(random() * 0.002)");
    });
    const session = { url, connectTimeout: 10_000, queryTimeout: 10_000, applicationName: "test" };
    const one = await Session.open(session);
    const other = await Session.open(session);
    try {
      for (let round = 1; round <= 200; round++) {
        assert(await arePooled(one, other), `round ${round}`);
      }
    } finally {
      over.abort();
      await Promise.all(loads);
      await Promise.all([one.close(), other.close()]);
    }
  },
);

test(
  "through a pooler in session mode LISTEN works, after a handful of statements",
  { ...options, schema: false },
  async (context) => {
    const server = context.use(await talkative());
    const pooler = context.use(await startPooler(server.url, "session"));
    const url = new URL(pooler.through(server.url));
    url.searchParams.set("application_name", "hark-test");
    const db = context.use(await connect(url.href));
    await migrate(db);
    const inbox = new Inbox<number>();
    const consumer = new Consumer(db, {
      id: "c",
      channels: "c",
      pollInterval: NEVER_POLL,
      handle: ({ id }) => inbox.push(id),
    });
    const before = (await statements(server)).length;
    const running = consumer.run();
    await consumer.ready;
    const sent = (await statements(server)).slice(before);
    const settling = sent.findIndex((line) => /pg_try_advisory_lock/.test(line));
    // Two connections with their settings, whether it is a standby, six looks of both, LISTEN, a test of it.
    assert(settling > 0 && settling < 25, `${settling} of ${sent.length}:\n${sent.join("\n")}`);
    await notify(await context.client(server.url), "c");
    await inbox.atLeast(1);
    await consumer.stop();
    await running;
  },
);
