import assert from "node:assert/strict";
import { connect, Consumer, notify } from "../../mod.ts";
import { patient, test, until } from "../harness/mod.ts";
import {
  Gate,
  killBackends,
  listenBackends,
  listeningAgain,
  NEVER_POLL,
  numbers,
  publish,
  readerBackends,
  Reading,
  Running,
} from "./_support/running.ts";

test("a consumer is woken at once again after its LISTEN backend is killed, every time", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  const reading = context.use(
    new Reading(db, "c", { from: "beginning", pollInterval: NEVER_POLL }),
  );
  await publish(context, 1, 1);
  await running.atLeast(1);
  await reading.inbox.atLeast(1);
  for (let round = 1; round <= 3; round++) {
    const killed = await killBackends(context, listenBackends);
    assert.equal(killed.length, 1, "one LISTEN connection serves everybody");
    // While no session listens, and after: both must arrive, and nothing polls.
    await publish(context, round * 10, round * 10);
    await listeningAgain(context, killed);
    await running.atLeast(round * 2);
    await publish(context, round * 10 + 1, round * 10 + 1);
    await running.atLeast(round * 2 + 1);
    await reading.inbox.atLeast(round * 2 + 1);
  }
  assert.deepEqual(running.payloads, [1, 10, 11, 20, 21, 30, 31]);
  assert.deepEqual(reading.payloads, running.payloads);
});

test("a worker whose session is killed while it waits goes on, and is woken", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  for (let round = 1; round <= 5; round++) {
    await publish(context, round, round);
    await running.atLeast(round);
    await killBackends(context, readerBackends);
  }
  await publish(context, 6, 6);
  await running.atLeast(6);
  assert.deepEqual(running.payloads, numbers(1, 6));
});

test("a worker whose session is killed during a handler repeats nothing in this process", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 25);
  const gate = new Gate(15);
  const running = new Running(db, {
    pageSize: 10,
    // Nothing is stored before the kill but at the end of a window.
    acknowledgeCount: 1_000_000,
    acknowledgeInterval: 3_600_000,
    handle: gate.handle,
  });
  await gate.reached();
  await killBackends(context, readerBackends);
  gate.open();
  await running.atLeast(25);
  await publish(context, 26, 26);
  await running.atLeast(26);
  await running.stop();
  assert.deepEqual(running.payloads, numbers(1, 26));
  assert.equal(await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(), 0);
});

test("handled but not stored when the session is killed: stored afterwards, not repeated", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 10);
  // 1 to 9 are handled, none of them stored, when 10 waits and everything of the worker's is killed.
  const gate = new Gate(10);
  const running = new Running(db, {
    acknowledgeCount: 1_000_000,
    acknowledgeInterval: 3_600_000,
    pollInterval: NEVER_POLL,
    handle: gate.handle,
  });
  await gate.reached();
  const handled = async () =>
    Number((await context.sql("select handled from hark.partitions"))[0].handled);
  assert.equal(await handled(), 0);
  await killBackends(context, readerBackends);
  await killBackends(context, listenBackends);
  gate.open();
  await running.stop();
  assert.equal(await handled(), 10);
  assert.deepEqual(running.payloads, numbers(1, 10));
});

test("a long handler whose worker's session is killed in the middle goes on, and is not called again beside itself", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const gate = new Gate(2);
  const running = context.use(new Running(db, { lease: patient(200), handle: gate.handle }));
  const { signal } = await gate.reached();
  const cut = performance.now();
  const killed = await killBackends(context, readerBackends);
  await until(async () => (await readerBackends(context)).some((pid) => !killed.includes(pid)));
  // A handler is told after a second without a connection. A slow machine may need that long for one.
  if (performance.now() - cut < 900) {
    assert.equal(signal.aborted, false, "it goes on before any other worker could take over");
  }
  assert.deepEqual(running.payloads, [1, 2], "it runs still");
  gate.open();
  await running.atLeast(3);
  await publish(context, 4, 4);
  await running.atLeast(4);
  assert.deepEqual(running.payloads, numbers(1, 4), "it succeeded, and no worker had taken over");
});

test("1,000 notifications and a session killed every few of them: each handled once", async (context) => {
  const db = context.use(await connect(context.url));
  const total = 1000;
  let kills = 0;
  let killing: Promise<unknown> | undefined;
  const running = context.use(
    new Running(db, {
      pageSize: 50,
      acknowledgeCount: 7,
      pollInterval: NEVER_POLL,
      handle: async (n) => {
        if (Number(n.payload) % 90 !== 0) return;
        kills++;
        killing = killBackends(context, n.payload % 180 === 0 ? readerBackends : listenBackends);
        if (n.payload % 270 === 0) await killing;
      },
    }),
  );
  const publishing = publish(context, 1, total);
  await running.atLeast(total, { deadline: 45_000 });
  await publishing;
  await killing;
  assert(kills >= 11);
  assert.deepEqual(running.payloads, numbers(1, total));
});

test("a connection of the pool that is killed costs one error at most", async (context) => {
  const db = context.use(await connect(context.url, { poolSize: 2 }));
  await db.query("select 1");
  await context.sql(
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1",
    [context.appName],
  );
  await until(() => notify(db, "c", 1).then(() => true, () => false), { deadline: 5000 });
  await notify(db, "c", 2);
});

test("a subscription whose session is killed at any page neither loses nor repeats", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 40);
  const reading = context.use(
    new Reading(db, "c", { from: "beginning", pageSize: 7, pollInterval: NEVER_POLL }),
  );
  for (let n = 40; n < 60; n += 4) {
    await reading.inbox.atLeast(n);
    await killBackends(context, readerBackends);
    await publish(context, n + 1, n + 4);
  }
  await reading.inbox.atLeast(60);
  assert.deepEqual(reading.payloads, numbers(1, 60));
});
