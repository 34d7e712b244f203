/** Reading from a standby: what is read there, and what the primary is asked for it. */

import assert from "node:assert/strict";
import {
  connect,
  type ConnectOptions,
  type Database,
  type HarkError,
  subscribe,
} from "../../mod.ts";
import { type OwnServer, ownServer, until } from "../harness/mod.ts";
import { Events, serve } from "../streams/_support/serve.ts";
import { Ledger } from "./_support/ledger.ts";
import { numbers, publish, Reading } from "./_support/running.ts";
import { type Standby, standbyOf } from "./_support/standby.ts";

const quick = { replicaInterval: 50, applicationName: "reader" };

/** A database with a replica. */
async function both(
  primary: OwnServer,
  standby: Standby,
  options: ConnectOptions = quick,
): Promise<Database> {
  return await connect(primary.url, { ...options, replica: standby.url });
}

/** What a subscription reads to its end. */
async function rest(db: Database, from: Parameters<typeof subscribe>[2] = {}): Promise<unknown[]> {
  const all: unknown[] = [];
  const options = { from: "beginning", follow: false, ...from } as const;
  for await (const { payload } of subscribe(db, "c", options)) all.push(payload);
  return all;
}

const readPages = `select coalesce(sum(calls), 0)::int as calls from pg_stat_statements
  where query ~ 'hark\\.page\\('`;

Deno.test("subscriptions, a replay and a stream read from a replica what 8 writers commit, each once", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await both(primary, standby);
  await using onPrimary = await connect(primary.url);
  const readers = Array.from({ length: 50 }, () => new Reading(db, "c", { from: "beginning" }));
  await using tail = new Reading(db, null, { from: "beginning" });
  await using served = serve(db, { channels: "c" });
  await using events = new Events(`${served.url}?offset=-1`);
  const ledger = new Ledger();
  ledger.start(primary.url, 8);
  await until(() => ledger.count > 3000, { deadline: 60_000 });
  const replayed = await rest(db);
  assert(replayed.length > 0);
  await ledger.stop();
  assert(ledger.rolledBack > 0);
  const all = [...readers, tail];
  await until(() => all.every(({ payloads }) => payloads.length >= ledger.count), {
    deadline: 60_000,
    what: "all to be read",
  });
  await until(() => events.messages.length >= ledger.count);
  for (const [i, { payloads }] of all.entries()) ledger.check(payloads, `reader ${i}`);
  ledger.check(events.messages, "the stream");
  const there = await rest(db);
  ledger.check(there, "a replay");
  assert.deepEqual(there, await rest(onPrimary), "in the order of the primary");
  const { rows: [{ here }] } = await db.query(
    `select count(*)::int as here from pg_stat_activity
      where application_name = 'reader' and query ~ 'hark\\.page'`,
  );
  assert.equal(here, 0, "no page was read on the primary");
  for (const one of readers) await one[Symbol.asyncDispose]();
});

Deno.test("what commits last, late and below ids that were read, comes from the replica too", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await both(primary, standby);
  await using reading = new Reading(db, "c", { from: "beginning" });
  await publish(primary, 1, 1);
  await reading.inbox.atLeast(1);
  const [late, later] = [await primary.client(), await primary.client()];
  // It has an id, and is in no mark: no later transaction has a number.
  await late.query("begin; select hark.notify('c', '2')");
  await publish(primary, 3, 3);
  await reading.inbox.atLeast(2);
  await later.query("begin; select hark.notify('c', '4')");
  await late.query("commit");
  await reading.inbox.atLeast(3);
  // All is quiet, and only this one is left.
  await until(async () => {
    const [{ open }] = await primary.sql(
      "select count(*)::int as open from hark.marks where taken_at > now() - interval '1 second'",
    );
    return open === 0;
  });
  await later.query("commit");
  await reading.inbox.atLeast(4);
  assert.deepEqual(reading.payloads, [1, 3, 2, 4]);
});

Deno.test("the primary is asked no more for 50 readers than for one, and for nothing while it is idle", async () => {
  await using primary = await ownServer({
    settings: { shared_preload_libraries: "pg_stat_statements" },
  });
  await primary.sql("create extension pg_stat_statements");
  await using standby = await standbyOf(primary);
  const [{ oid }] = await primary.sql("create role reader login superuser").then(() =>
    primary.sql("select oid::int from pg_roles where rolname = 'reader'")
  );
  const url = new URL(primary.url);
  url.username = "reader";
  const there = new URL(standby.url);
  there.username = "reader";
  await primary.sql("alter role reader password 'r'");
  url.password = there.password = "r";
  await standby.caughtUp(primary);
  const asked = async () => {
    const [{ calls }] = await primary.sql(
      "select coalesce(sum(calls), 0)::int as calls from pg_stat_statements where userid = $1 and toplevel",
      [oid],
    );
    return calls as number;
  };
  await using db = await connect(url.href, { ...quick, replica: there.href });
  let published = 0;
  const flow = async (readers: Reading[]) => {
    const before = await asked();
    for (let n = 0; n < 20; n++) {
      await publish(primary, ++published, published);
      const has = (one: Reading) => one.payloads.at(-1) === published;
      await until(() => readers.every(has));
    }
    return await asked() - before;
  };
  const reader = () => new Reading(db, "c", { from: "beginning" });
  const first = reader();
  await flow([first]);
  const one = await flow([first]);
  const more = Array.from({ length: 49 }, reader);
  const fifty = await flow([first, ...more]);
  // For each of the 20 a mark, and for the last another one that closes.
  assert(one >= 20 && one <= 50, `one reader: ${one} statements`);
  assert(fifty <= 50, `fifty readers: ${fifty} statements, one: ${one}`);
  await until(async () =>
    (await standby.sql("select has_new from hark.look_here()"))[0].has_new === false
  );
  let [seen, since] = [await asked(), performance.now()];
  await until(async () => {
    const now = await asked();
    if (now !== seen) [seen, since] = [now, performance.now()];
    return performance.now() - since > 1000;
  }, { what: "a second without a statement" });
  assert.equal((await primary.sql(readPages))[0].calls, 0);
  for (const each of [first, ...more]) await each[Symbol.asyncDispose]();
});

Deno.test("a subscription from now on a replica begins after what can be seen there", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await both(primary, standby);
  await publish(primary, 1, 5);
  await standby.caughtUp(primary);
  const ready = Promise.withResolvers<void>();
  await using reading = new Reading(db, "c", { onReady: ready.resolve });
  await ready.promise;
  await publish(primary, 6, 8);
  await reading.inbox.atLeast(3);
  assert.deepEqual(reading.payloads, [6, 7, 8]);
  assert(reading.inbox.items.every(({ isReplay }) => !isReplay));
  assert.deepEqual(await rest(db, { from: { id: 3 } }), numbers(3, 8));
});

Deno.test("positions that were taken on the replica go on at the primary, and the other way round", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await both(primary, standby);
  await using onPrimary = await connect(primary.url);
  const late = await primary.client();
  await late.query("begin; select hark.notify('c', '0')");
  await publish(primary, 1, 20);
  const positions: [string, number, Database][] = [];
  for (const on of [db, onPrimary]) {
    await using reading = new Reading(on, "c", { from: "beginning", pageSize: 3 });
    await reading.inbox.atLeast(20);
    for (const [i, { position }] of reading.inbox.items.entries()) {
      positions.push([position!, i + 1, on === db ? onPrimary : db]);
    }
  }
  await late.query("commit");
  await publish(primary, 21, 23);
  await standby.caughtUp(primary);
  for (const [position, count, on] of positions) {
    assert.deepEqual(
      await rest(on, { from: { position } }),
      [...numbers(count + 1, 20), 0, 21, 22, 23],
      `${count} at ${on === db ? "the replica" : "the primary"}`,
    );
  }
});

Deno.test("a replica that is away, or is none of this server, is refused at once with its place", async () => {
  await using primary = await ownServer();
  await using other = await ownServer({ schema: false });
  const nowhere = new URL(primary.url);
  nowhere.port = "1";
  await assert.rejects(
    connect(primary.url, { replica: nowhere.href }),
    (error: HarkError) => error.code === "UNREACHABLE" && /the replica .*:1\//.test(error.message),
  );
  await assert.rejects(connect(primary.url, { replica: other.url }), {
    code: "BAD_OPTION",
    message: /no standby of this database/,
  });
  await assert.rejects(connect(primary.url, { replica: 5 as never }), { code: "BAD_OPTION" });
  await assert.rejects(connect(primary.url, { replicaInterval: 1 }), { code: "BAD_OPTION" });
  await using _none = await connect(primary.url, { replica: "" });
});
