/** What becomes of readers if their replica lags, is restarted, cancels them, or is promoted. */

import assert from "node:assert/strict";
import { connect, subscribe } from "../../mod.ts";
import { EphemeralReader } from "../../src/consume/read/ephemeral_reader.ts";
import { cut } from "../../src/consume/read/cut.ts";
import { isPrivate, seeTheSame } from "../../src/consume/state/position.ts";
import { deferred, type OwnServer, ownServer, patient, until, within } from "../harness/mod.ts";
import { Events, serve } from "../streams/_support/serve.ts";
import { Ledger } from "./_support/ledger.ts";
import { Line } from "./_support/line.ts";
import { logged, said, sentence } from "./_support/logs.ts";
import { numbers, publish, Reading } from "./_support/running.ts";
import { standbyOf } from "./_support/standby.ts";

const quick = { replicaInterval: 50, maxReconnectDelay: 500 };

Deno.test("readers of a replica that is promoted lose nothing and get nothing twice", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using line = new Line(primary.port);
  await using db = await connect(line.through(primary.url), { ...quick, replica: standby.url });
  await using served = serve(db, { channels: "c" });
  await using events = new Events(`${served.url}?offset=-1`);
  const readers = Array.from(
    { length: 5 },
    () => new Reading(db, "c", { from: "beginning", pageSize: 20 }),
  );
  const before = new Ledger();
  before.start(primary.url, 4);
  await until(() => before.count > 500 && readers[0]!.payloads.length > 200);
  await before.stop();
  await standby.caughtUp(primary);
  // In the middle: the readers are behind, and the last marks of the old primary may never come.
  const since = Date.now();
  await primary.stop("immediate");
  await standby.promote();
  line.target = standby.port;
  line.sever();
  const after = new Ledger();
  after.start(standby.url, 4, "d");
  await until(() => after.count > 300);
  await after.stop();
  await publish(standby, 1, 5);
  const done = (payloads: unknown[]) => payloads.includes(5);
  await until(() => readers.every(({ payloads }) => done(payloads)), { deadline: 30_000 });
  await until(() => done(events.messages));
  for (const payloads of [...readers.map((one) => one.payloads), events.messages]) {
    assert.deepEqual(payloads.slice(-5), numbers(1, 5));
    before.check(payloads.slice(0, -5), "before the promotion");
  }
  await said("warning", /The replica .* has been promoted/, since);
  for (const one of readers) await one[Symbol.asyncDispose]();
});

Deno.test("a replica that is promoted is read on though the old primary is gone for good", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await connect(primary.url, { ...quick, replica: standby.url });
  await using reading = new Reading(db, "c", { from: "beginning" });
  await publish(primary, 1, 3);
  await reading.inbox.atLeast(3);
  await primary.stop("immediate");
  await standby.promote();
  await publish(standby, 4, 6);
  await reading.inbox.atLeast(6);
  assert.deepEqual(reading.payloads, numbers(1, 6));
});

Deno.test("a replica that lags says so, and a position ahead of it waits for it and loses nothing", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await connect(primary.url, { ...quick, replica: standby.url });
  await using onPrimary = await connect(primary.url);
  await using served = serve(db, { channels: "c" });
  await using reading = new Reading(db, "c", { from: "beginning" });
  await publish(primary, 1, 3);
  await reading.inbox.atLeast(3);
  const since = Date.now();
  await standby.sql("select pg_wal_replay_pause()");
  await until(async () =>
    (await standby.sql("select pg_get_wal_replay_pause_state() = 'paused' as is"))[0].is
  );
  await publish(primary, 4, 6);
  const read = [];
  let position = "";
  for await (const n of subscribe(onPrimary, "c", { from: "beginning", follow: false })) {
    read.push(n.payload);
    position = n.position!;
    if (n.payload === 5) break;
  }
  await publish(primary, 7, 8);
  const begun = deferred("the reader to begin");
  await using ahead = new Reading(db, "c", { from: { position }, onReady: () => begun.resolve() });
  await said("warning", /Reading begins when the replica is there: this standby has not/, since);
  const response = await fetch(`${served.url}?offset=${position}`);
  assert.equal(response.status, 503, "a client is to come again");
  await response.body?.cancel();
  await said("warning", /The replica .* is \d+ ms behind the primary/, since, { deadline: 40_000 });
  assert(!begun.settled);
  assert.deepEqual(reading.payloads, [1, 2, 3]);
  await standby.sql("select pg_wal_replay_resume()");
  await ahead.inbox.atLeast(3);
  await reading.inbox.atLeast(8);
  assert.deepEqual(ahead.payloads, [6, 7, 8]);
  assert.deepEqual(reading.payloads, numbers(1, 8));
  await said("info", /The replica .* has caught up/, since);
});

Deno.test("readers of a replica that is restarted, and those whose primary is away, go on", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using line = new Line(primary.port);
  await using db = await connect(line.through(primary.url), { ...quick, replica: standby.url });
  await using reading = new Reading(db, "c", { from: "beginning", pageSize: 2 });
  await publish(primary, 1, 5);
  await reading.inbox.atLeast(5);
  let since = Date.now();
  await standby.stop();
  await said("warning", /The replica .* cannot be looked at/, since);
  await publish(primary, 6, 8);
  await assert.rejects(
    within(subscribe(db, "c").next(), { what: "a start on a replica that is away" }),
    { code: "UNREACHABLE" },
  );
  await standby.start();
  await reading.inbox.atLeast(8);
  // Without the primary, what is there stays readable, and what is new waits for a mark.
  since = Date.now();
  line.target = 1;
  line.sever();
  await publish(primary, 9, 10);
  await said("warning", /The primary could not be asked for a mark/, since);
  const all = [];
  for await (const { payload } of subscribe(db, "c", { from: "beginning" })) {
    if (all.push(payload) === 8) break;
  }
  assert.deepEqual(all, numbers(1, 8));
  await assert.rejects(within(subscribe(db, "c").next()), { code: "UNREACHABLE" });
  line.target = primary.port;
  await reading.inbox.atLeast(10);
  assert.deepEqual(reading.payloads, numbers(1, 10));
});

Deno.test("a page that the replica cancels to go on replaying is asked for again, smaller", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary, undefined, {
    hot_standby_feedback: "off",
    max_standby_streaming_delay: "0",
  });
  const count = 60_000;
  await primary.sql(
    `select count(hark.notify('c', to_jsonb(n))), count(hark.notify('gone', '0'))
      from generate_series(1, $1::int) n`,
    [count],
  );
  await standby.caughtUp(primary);
  await using db = await connect(primary.url, { ...quick, replica: standby.url });
  const since = Date.now();
  const conflict = /Reading was interrupted: canceling statement due to conflict with recovery/;
  const isCancelled = () =>
    logged.items.some((one) => one.timestamp >= since && conflict.test(sentence(one)));
  const over = new AbortController();
  const cleaning = (async () => {
    // Rows that the page's snapshot sees are removed for good.
    for (let n = 0; !over.signal.aborted && !isCancelled(); n++) {
      await primary.sql(
        "delete from hark.log where channel = 'gone' and id > $1 and id <= $1::bigint + 1000",
        [n * 1000 % (2 * count)],
      );
      await primary.sql("vacuum hark.log");
    }
  })();
  cleaning.catch(() => {}); // it is awaited below
  const read: unknown[] = [];
  try {
    // Read anew until it was hit.
    while (read.length === 0 || !isCancelled()) {
      read.length = 0;
      const options = { from: "beginning", follow: false, pageSize: 100_000 } as const;
      for await (const { payload } of subscribe(db, "c", options)) read.push(payload);
      assert.deepEqual(read, numbers(1, count));
      assert(Date.now() - since < patient(90_000), "no page was cancelled");
    }
  } finally {
    over.abort();
    await cleaning;
  }
});

/**
 * A position on the primary that ends at a mark which is not stored, behind some work.
 *
 * @param stored Whether a mark that sees the same is stored then.
 */
async function privatePosition(
  primary: OwnServer,
  work: () => Promise<unknown>,
  stored: boolean,
): Promise<string> {
  await using session = await connect(primary.url);
  const limits = { rows: 100, bytes: 1_000_000, scanned: 10_000 };
  return await until(async () => {
    const reader = new EphemeralReader(["c"], limits, "", "private");
    await reader.start(session, ["now", null, null]);
    await work();
    await reader.read(session);
    // After a second without a stored mark, readers store one.
    if (!isPrivate(reader.mark)) return undefined;
    return (!stored || seeTheSame(await cut(session), reader.mark)) && reader.position;
  }) as string;
}

Deno.test("a stream from a position whose mark is not stored waits without keeping the process busy", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await connect(primary.url, { ...quick, replica: standby.url });
  const options = { channels: "c", heartbeat: 200, longPoll: 500 };
  await using served = serve(db, options);
  let published = 0;
  const position = await privatePosition(primary, async () => {
    await publish(primary, ++published, published);
    await primary.sql("select hark.cut()");
  }, true);
  await standby.caughtUp(primary);
  await using events = new Events(`${served.url}?offset=${position}`);
  await using live = new Events(`${served.url}?offset=${position}&live=sse`);
  await until(() => events.lastId === position, { what: "a heartbeat" });
  await until(() => live.all.some(({ data }) => JSON.parse(data).upToDate === true));
  const poll = await fetch(`${served.url}?offset=${position}&live=long-poll`);
  assert.deepEqual([poll.status, await poll.text()], [204, ""]);
  await publish(primary, published + 1, published + 1);
  await until(() => events.messages.length > 0);
  assert.deepEqual(events.messages, [published + 1]);
});

Deno.test("a position behind a publish that was rolled back is taken by a replica though all is quiet", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using db = await connect(primary.url, { ...quick, replica: standby.url });
  const writer = await primary.client();
  const position = await privatePosition(
    primary,
    () => writer.query("begin; select hark.notify('c', '0'); rollback"),
    false,
  );
  const begun = deferred("the reader to begin");
  await using reading = new Reading(db, "c", {
    from: { position },
    onReady: () => begun.resolve(),
  });
  await begun.wait({ deadline: 10_000 });
  await publish(primary, 1, 1);
  await reading.inbox.atLeast(1);
  assert.deepEqual(reading.payloads, [1]);
});
