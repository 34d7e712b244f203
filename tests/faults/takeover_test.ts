import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { cutProxy, patient, spawnDeno, test, until } from "../harness/mod.ts";
import { Line } from "./_support/line.ts";
import { said } from "./_support/logs.ts";
import {
  Gate,
  listenBackends,
  listeningAgain,
  NEVER_POLL,
  numbers,
  publish,
  Running,
} from "./_support/running.ts";

/** The LISTEN session of the owner. */
const ownSession = "select w.session from hark.crew w join hark.partitions p using (owner)";

/** The port of the tests' server. */
const port = (url: string) => Number(new URL(url).port || 5432);

test("two consumers in one process both handle everything", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 5);
  const a = context.use(new Running(db, { id: "a", pollInterval: NEVER_POLL }));
  const b = context.use(new Running(db, { id: "b", pollInterval: NEVER_POLL }));
  await publish(context, 6, 200);
  await Promise.all([a.atLeast(200), b.atLeast(200)]);
  assert.deepEqual(a.payloads, numbers(1, 200));
  assert.deepEqual(b.payloads, numbers(1, 200));
});

test("two workers of one consumer: each notification is handled once, by one of them", async (context) => {
  const one = context.use(await connect(context.url));
  const two = context.use(await connect(context.url));
  const a = context.use(new Running(one, { pollInterval: NEVER_POLL }));
  const b = context.use(new Running(two, { pollInterval: NEVER_POLL }));
  await publish(context, 1, 300);
  await until(() => a.inbox.items.length + b.inbox.items.length >= 300);
  const all = [...a.payloads, ...b.payloads].sort((x, y) => Number(x) - Number(y));
  assert.deepEqual(all, numbers(1, 300));
});

test("the second worker takes over promptly after the first is stopped", async (context) => {
  const since = Date.now();
  const one = context.use(await connect(context.url));
  const two = context.use(await connect(context.url));
  const a = new Running(one, { pollInterval: NEVER_POLL });
  await publish(context, 1, 3);
  await a.atLeast(3);
  const b = context.use(new Running(two, { pollInterval: NEVER_POLL }));
  await said("info", /standing by/, since);
  await a.stop();
  await publish(context, 4, 6);
  await b.atLeast(3, { deadline: 5000 });
  assert.deepEqual([...a.payloads, ...b.payloads], numbers(1, 6));
});

test("the second worker takes over within seconds after the first loses its sessions", async (context) => {
  const since = Date.now();
  const line = context.use(cutProxy(port(context.url)));
  const one = context.use(await connect(line.through(context.url)));
  const two = context.use(await connect(context.url));
  const gate = new Gate(4);
  const a = context.use(
    new Running(one, { lease: 60_000, pollInterval: NEVER_POLL, handle: gate.handle }),
  );
  await publish(context, 1, 3);
  await a.atLeast(3);
  const b = context.use(new Running(two, { lease: 60_000, pollInterval: NEVER_POLL }));
  await said("info", /standing by/, since);
  await until(async () =>
    Number((await context.sql("select handled from hark.partitions"))[0].handled) === 3
  );
  await publish(context, 4, 4);
  const { signal } = await gate.reached();
  line.refuse();
  await b.atLeast(1, { deadline: 15_000 });
  assert.deepEqual(b.payloads, [4], "what was stored is not handled again");
  const resumed = Date.now();
  line.resume();
  await until(() => signal.aborted, { what: "the signal of the lost handler to abort" });
  gate.open();
  // The first one is back and stands by; what it held is not stored by it.
  await publish(context, 5, 20);
  await b.atLeast(17);
  await said("info", /standing by/, resumed);
  assert.deepEqual(b.payloads, numbers(4, 20));
  assert.deepEqual(a.payloads, numbers(1, 4));
});

test("a worker that loses its LISTEN session only keeps its consumer, mid-page and mid-handler", async (context) => {
  const since = Date.now();
  const one = context.use(await connect(context.url));
  const line = context.use(cutProxy(port(context.url)));
  const two = context.use(await connect(line.through(context.url)));
  const gate = new Gate(3);
  await publish(context, 1, 10);
  const a = context.use(
    new Running(one, { lease: 60_000, pollInterval: NEVER_POLL, handle: gate.handle }),
  );
  const { signal } = await gate.reached();
  const b = context.use(new Running(two, { lease: 60_000, pollInterval: NEVER_POLL }));
  await said("info", /standing by/, since);
  // Where answers take long, the second worker gives the first one several seconds to come back.
  line.delay(100);
  const [{ pid }] = await context.sql(
    `select l.pid from pg_locks l join hark.crew w
      on w.session = (l.classid::bigint << 32 | l.objid::bigint)
      join hark.partitions p on p.owner = w.owner where l.locktype = 'advisory'`,
  );
  const [{ session }] = await context.sql(ownSession);
  const cut = performance.now();
  await context.sql("select pg_terminate_backend($1, 5000)", [pid]);
  await until(async () => (await context.sql(ownSession))[0].session !== session);
  const took = performance.now() - cut;
  await listeningAgain(context, [pid]);
  gate.open();
  await a.atLeast(10);
  // A handler is told after a second without a heartbeat. A slow machine may need that long for one.
  if (took < 900) assert.equal(signal.aborted, false);
  assert.deepEqual(a.payloads, numbers(1, 10));
  await until(async () => (await context.sql(ownSession))[0].session !== null);
  assert.deepEqual(b.payloads, []);
});

test("kill -9 of a worker's process: another goes on about two seconds later", async (context) => {
  const since = Date.now();
  const config = JSON.stringify({ options: { lease: 60_000, acknowledgeInterval: 0 } });
  await using child = spawnDeno(["tests/faults/_support/worker.ts", context.url, config]);
  await publish(context, 1, 3);
  await child.line(/^handled 3$/);
  const stored = "select handled from hark.partitions";
  await until(async () => Number((await context.sql(stored))[0].handled) === 3);
  const db = context.use(await connect(context.url));
  const b = context.use(new Running(db, { lease: 60_000, pollInterval: NEVER_POLL }));
  await said("info", /standing by/, since);
  child.kill("SIGKILL");
  await child.ended();
  await publish(context, 4, 5);
  await b.atLeast(2, { deadline: 15_000 });
  assert.deepEqual(b.payloads, [4, 5]);
});

test("kill -9 of a worker that had no LISTEN: another goes on when the lease is over", async (context) => {
  const since = Date.now();
  // So long that the first worker still has it when the second one comes, also if it stands still for a moment.
  const lease = patient(2000);
  const config = JSON.stringify({
    connect: { listen: false },
    options: { lease, pollInterval: 50, acknowledgeInterval: 0 },
  });
  await using child = spawnDeno(["tests/faults/_support/worker.ts", context.url, config]);
  await publish(context, 1, 3);
  await child.line(/^handled 3$/);
  const stored = "select handled from hark.partitions";
  await until(async () => Number((await context.sql(stored))[0].handled) === 3);
  const db = context.use(await connect(context.url));
  const b = context.use(new Running(db, { lease, pollInterval: NEVER_POLL }));
  await said("info", /standing by/, since);
  child.kill("SIGKILL");
  await child.ended();
  await publish(context, 4, 5);
  await b.atLeast(2, { deadline: 15_000 });
  assert.deepEqual(b.payloads, [4, 5]);
});

test("a worker behind a half-open line is replaced when its lease is over, and comes back in peace", async (context) => {
  const since = Date.now();
  const line = context.use(new Line(port(context.url)));
  const quick = { heartbeat: 1000, heartbeatTimeout: patient(800), readerTimeout: patient(800) };
  const one = context.use(await connect(line.through(context.url), quick));
  const two = context.use(await connect(context.url));
  const gate = new Gate(4);
  const a = context.use(new Running(one, { lease: 5000, handle: gate.handle }));
  await publish(context, 1, 3);
  await a.atLeast(3);
  await until(async () =>
    Number((await context.sql("select handled from hark.partitions"))[0].handled) === 3
  );
  const b = context.use(new Running(two, { lease: 5000 }));
  await said("info", /standing by/, since);
  await publish(context, 4, 4);
  const { signal } = await gate.reached();
  line.target = 1; // no server is there
  line.halfOpen();
  await b.atLeast(1, { deadline: 20_000 });
  await until(() => signal.aborted, { what: "the signal of the fenced handler to abort" });
  const back = Date.now();
  line.target = port(context.url);
  gate.open();
  await publish(context, 5, 10);
  await b.atLeast(7);
  await said("info", /standing by/, back, { deadline: 30_000 });
  assert.deepEqual(b.payloads, numbers(4, 10));
  assert.deepEqual(a.payloads, numbers(1, 4));
});

test("an acknowledgement of a worker that was fenced out is refused, and it claims anew", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const gate = new Gate(2);
  const a = context.use(new Running(db, { handle: gate.handle, acknowledgeInterval: 0 }));
  await gate.reached();
  // Another worker has taken it over and has released it, having handled nothing.
  const other = crypto.randomUUID();
  await context.sql(
    `with p as (
      insert into hark.processes (id, lease_until)
      values ($1, clock_timestamp() + interval '1 hour') returning id
    ), other as (
      insert into hark.workers (consumer, owner, process) select 'c', p.id, p.id from p returning owner
    )
    update hark.partitions set epoch = epoch + 1, owner = other.owner from other`,
    [other],
  );
  gate.open();
  await said("warning", /taken over by another worker/, since);
  const [row] = await context.sql("select owner, epoch::int as epoch from hark.partitions");
  assert.equal(row.owner, other, "the refused one has changed nothing");
  await context.sql("update hark.processes set lease_until = clock_timestamp() where id = $1", [
    other,
  ]);
  await a.atLeast(4);
  await until(async () => {
    const [now] = await context.sql("select owner, handled from hark.partitions");
    return now.owner !== other && Number(now.handled) >= 3;
  });
  assert.deepEqual(a.payloads.slice(0, 2), [1, 2]);
  assert.equal(a.payloads.at(-1), 3);
  assert(a.payloads.filter((n) => n === 2).length === 2, "the other one had not handled it");
});

test("a program that ends in order gives its consumer back at once", async (context) => {
  const since = Date.now();
  await using child = spawnDeno([
    "tests/faults/_support/worker.ts",
    context.url,
    JSON.stringify({ options: { lease: 600_000 } }),
  ]);
  await publish(context, 1, 2);
  await child.line(/^handled 2$/);
  const db = context.use(await connect(context.url));
  const b = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await said("info", /standing by/, since);
  child.kill("SIGTERM");
  assert.equal((await child.ended()).code, 0);
  assert.match(child.stdout, /stopped/);
  await publish(context, 3, 3);
  await b.atLeast(1, { deadline: 5000 });
  assert.deepEqual(b.payloads, [3]);
  await until(async () => (await listenBackends(context)).length === 1);
});

test("drain beside a worker waits for its turn and handles nothing twice", async (context) => {
  const since = Date.now();
  const db = context.use(await connect(context.url));
  const a = new Running(db, {});
  await publish(context, 1, 3);
  await a.atLeast(3);
  const second = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const drained = second.drain();
  await said("info", /standing by/, since);
  await a.stop();
  assert.equal(await drained, 0);
});
