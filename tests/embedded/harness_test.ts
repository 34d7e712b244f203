import assert from "node:assert/strict";
import { basename } from "node:path";
import { connect, cutProxy, deferred, disconnect, Inbox, once } from "../harness/mod.ts";
import { startThrowaway } from "../harness/throwaway.ts";
import {
  ownServer,
  patient,
  scratch,
  spawnDeno,
  test,
  until,
  withDatabase,
  within,
} from "../harness/mod.ts";

const EMPTY = { schema: false };

test("each test has a database of its own, with Hark in it", async ({ sql, url, database }) => {
  assert.deepEqual(await sql("select current_database() as db"), [{ db: database }]);
  assert.equal(new URL(url).pathname, `/${database}`);
  assert.equal((await sql("select to_regnamespace('hark') is not null as there"))[0].there, true);
});

test("a database without Hark can be had", EMPTY, async ({ sql }) => {
  assert.equal((await sql("select to_regnamespace('hark') is null as empty"))[0].empty, true);
});

test("a test's own connections are closed for it, also in mid-query", EMPTY, async (context) => {
  const holder = await context.client();
  await holder.query("begin; create table t (); lock table t");
  const waiter = await context.client();
  waiter.query("select pg_sleep(600)").catch(() => {});
  const { rows } = await holder.query("select current_setting('application_name') as name");
  assert.equal(rows[0].name, context.appName);
});

Deno.test("a test that leaves a connection open fails, and says which", async (t) => {
  const left: Awaited<ReturnType<typeof connect>>[] = [];
  let name = "";
  const body = withDatabase(async ({ url, database }) => {
    name = database;
    left.push(await connect(url));
    await left[0]!.query("select 'forgotten'");
  }, { ...EMPTY, closing: 500 });
  await assert.rejects(async () => await body(t), /left 1 sessions open:\n.*forgotten/);
  await Promise.all(left.map(disconnect));
  assert.notEqual(name, "");
});

Deno.test("a test that does not end fails at its deadline", async (t) => {
  const never = Promise.withResolvers<void>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const body = withDatabase(() => {
    // Not before: to make the database may take longer than this.
    timer = setTimeout(never.resolve, patient(50) + 1000);
    return never.promise;
  }, { ...EMPTY, timeout: 50 });
  await assert.rejects(async () => await body(t), /waited \d+ ms for the test/);
  clearTimeout(timer);
});

Deno.test("what a failed test has left running fails that test only", async (t) => {
  const body = withDatabase(async ({ client }) => {
    void (await client()).query("select pg_sleep(600)");
    throw new Error("at once");
  }, EMPTY);
  await assert.rejects(async () => await body(t), /at once/);
});

Deno.test("until() gives the value, or says at the deadline what it saw last", async () => {
  let calls = 0;
  assert.equal(await until(() => ++calls > 3 ? calls : 0), 4);
  await assert.rejects(
    until(() => 0, { deadline: 20, what: "the moon" }),
    /waited \d+ ms for the moon; last seen: 0/,
  );
  await assert.rejects(
    until(() => Promise.reject(new Error("not yet")), { deadline: 20 }),
    /last seen: not yet/,
  );
});

Deno.test("deferred() and Inbox wait with a deadline", async () => {
  const signal = deferred<number>("the bell");
  await assert.rejects(signal.wait({ deadline: 10 }), /waited \d+ ms for the bell/);
  signal.resolve(3);
  assert.equal(await signal.wait(), 3);

  const inbox = new Inbox<string>();
  setTimeout(() => inbox.push("a"), 1);
  setTimeout(() => inbox.push("b"), 2);
  assert.deepEqual(await inbox.atLeast(2), ["a", "b"]);
  await assert.rejects(inbox.atLeast(3, { deadline: 10 }), /have 2/);
});

test("a proxy forwards, falls silent, and flows again", EMPTY, async (context) => {
  const proxy = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const client = await context.client(proxy.through(context.url));
  assert.equal(proxy.connections, 1);
  proxy.silence();
  const held = client.query("select 1 as one");
  await assert.rejects(within(held, { deadline: 100 }), /waited \d+ ms/);
  proxy.resume();
  assert.deepEqual((await within(held)).rows, [{ one: 1 }]);

  proxy.delay(60);
  const before = performance.now();
  await client.query("select 1");
  assert(performance.now() - before >= 100, "both directions are held back");
});

test(
  "a proxy cuts open connections, and refuses clients until it resumes, on one port",
  EMPTY,
  async (context) => {
    const proxy = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
    const url = proxy.through(context.url);
    const client = await context.client(url);
    const ended = deferred("the client to notice");
    client.on("end", () => ended.resolve());
    proxy.sever();
    await ended.wait();

    await context.client(url);
    proxy.refuse();
    await assert.rejects(connect(url), /ECONNRESET|terminated/);
    proxy.resume();
    await context.client(url);
  },
);

Deno.test("a server of one's own takes settings, and is stopped and killed at will", async () => {
  await using server = await ownServer({ settings: { max_prepared_transactions: "7" } });
  assert.deepEqual(await server.sql("show max_prepared_transactions"), [
    { max_prepared_transactions: "7" },
  ]);
  const client = await server.client();
  const ended = deferred("the connection to break");
  client.on("end", () => ended.resolve());
  await server.kill();
  await ended.wait();
  await server.start();
  await server.restart("immediate");
  assert.equal(
    (await server.sql("select to_regclass('hark.log') is not null as kept"))[0].kept,
    true,
  );
});

Deno.test("a program run beside the test is read, killed and waited for", async () => {
  await using folder = await scratch();
  const script = `${folder.path}/loop.ts`;
  await Deno.writeTextFile(script, "console.log('ready', 6 * 7); setInterval(() => {}, 1000);");
  await using child = spawnDeno([script], { permissions: [] });
  assert.equal((await child.line(/^ready (\d+)$/))[1], "42");
  child.kill("SIGKILL");
  assert.equal((await child.ended()).signal, "SIGKILL");
  await assert.rejects(child.line(/never/), /ended without a line like/);
});

Deno.test({
  name: "a run's own server has its databases in memory, and leaves none of them there",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    // Numbers of processes end below this one.
    const abandoned = "/dev/shm/hark_99999999";
    let folder: string | undefined;
    {
      await using server = await startThrowaway();
      folder = server.memory;
      if (folder === undefined) return; // a machine without room
      assert.ok((await inMemory(server.url)).includes(basename(folder)));
      await once(server.url, "create database one");
      await once(server.url, "create database other template template0");
      const [{ size }] = await once(server.url, "select pg_tablespace_size('memory') as size");
      assert.ok(Number(size) > 4 * 5e6, `${size} bytes of two databases and two templates`);
      // The program reads what it is given: to write to one that has ended is an error.
      await once(server.url, `copy (select) to program 'cat > /dev/null; mkdir ${abandoned}'`);
    }
    await using next = await startThrowaway();
    const left = await inMemory(next.url);
    assert.ok(!left.includes(basename(folder)), "a server that has ended");
    assert.ok(!left.includes(basename(abandoned)), "a server that was killed");
  },
});

/** The folders of all servers in memory. */
async function inMemory(url: string): Promise<string[]> {
  const rows = await once(
    url,
    "select name from pg_ls_dir('/dev/shm') as name where name ~ '^hark_[0-9]' order by name",
  );
  return rows.map(({ name }) => name);
}
