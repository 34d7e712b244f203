import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { cutProxy, deferred, patient, test, until, within } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { Line } from "./_support/line.ts";
import { said } from "./_support/logs.ts";
import {
  Gate,
  killBackends,
  listenBackends,
  NEVER_POLL,
  numbers,
  publish,
  Reading,
  Running,
} from "./_support/running.ts";

const port = (url: string) => Number(new URL(url).port || 5432);

/** What is promised of a line that goes silent, at default options. */
const PROMISE = 15_000;

test("a silent line is noticed and replaced within 15 s at default options", async (context) => {
  const since = Date.now();
  const line = context.use(new Line(port(context.url)));
  const db = context.use(await connect(line.through(context.url)));
  const waiting = context.use(new Running(db, { id: "waiting" }));
  const reading = context.use(new Reading(db, "c", { from: "beginning" }));
  const gate = new Gate(2);
  const busy = context.use(new Running(db, { id: "busy", handle: gate.handle }));
  await publish(context, 1, 2);
  await Promise.all([db.query("select 1"), db.query("select 1"), db.query("select 1")]);
  await gate.reached();
  await waiting.atLeast(2);
  await reading.inbox.atLeast(2);

  const asked = line.asked;
  const begun = performance.now();
  line.halfOpen();
  await publish(context, 3, 3);
  gate.open();
  const took = async (done: Promise<unknown>) => {
    await done;
    return Math.round(performance.now() - begun);
  };
  const [w, r, b, a] = await Promise.all([
    took(waiting.atLeast(3, { deadline: 40_000 })),
    took(reading.inbox.atLeast(3, { deadline: 40_000 })),
    took(busy.atLeast(3, { deadline: 40_000 })),
    took(until(() => line.asked > asked, { deadline: 40_000 })),
  ]);
  for (const ms of [w, r, b, a]) assert(ms < patient(PROMISE), `${ms} ms`);
  await said("warning", /LISTEN connection lost/, since);

  // The pool's connections were silent as well: publishing does not have to find that out.
  const published = performance.now();
  await Promise.all([notify(db, "other", 1), db.query("select 1")]);
  assert(performance.now() - published < patient(5000));

  // And LISTEN is back too, not only polling.
  await said("info", /LISTEN connection is back/, since);
  await publish(context, 4, 4);
  await waiting.atLeast(4, { deadline: 2500 });
  await reading.inbox.atLeast(4);
  await busy.atLeast(4);
  for (const who of [waiting, reading, busy]) assert.deepEqual(who.payloads, numbers(1, 4));
});

test("a black hole for new connections too: it goes on when that ends", async (context) => {
  const line = context.use(cutProxy(port(context.url)));
  const quick = {
    heartbeat: 300,
    // A start that takes longer than these fails.
    heartbeatTimeout: patient(800),
    readerTimeout: patient(800),
    connectTimeout: patient(800),
    maxReconnectDelay: 300,
  };
  const db = context.use(await connect(line.through(context.url), quick));
  const running = context.use(new Running(db, { pollInterval: 100 }));
  const begun = deferred("the subscription to be ready");
  const reading = context.use(
    new Reading(db, "c", { pollInterval: 100, onReady: () => begun.resolve() }),
  );
  await begun.wait();
  await until(async () => (await context.sql("select owner from hark.partitions"))[0]?.owner);
  const since = Date.now();
  line.silence();
  await publish(context, 1, 5);
  await said("warning", /No LISTEN connection \(attempt 2\).*(timeout|time)/, since);
  line.resume();
  await running.atLeast(5);
  await reading.inbox.atLeast(5);
  assert.deepEqual(running.payloads, numbers(1, 5));
  assert.deepEqual(reading.payloads, numbers(1, 5));
});

test("while each new LISTEN connection fails after its test has arrived, consumers poll", async (context) => {
  const { name, url } = await role(context);
  await context.sql("select hark.grant_consume($1)", [name]);
  const db = context.use(await connect(url, { maxReconnectDelay: 100 }));
  // It asks for its lease often, on the LISTEN connection if there is one.
  const running = context.use(new Running(db, { pollInterval: 100, lease: 1000 }));
  await publish(context, 1, 1);
  await running.atLeast(1);
  const since = Date.now();
  await context.sql("revoke execute on function pg_try_advisory_lock(bigint) from public");
  await killBackends(context, listenBackends);
  await said("warning", /No LISTEN connection \(attempt 9\).*pg_try_advisory_lock/, since);
  await publish(context, 2, 5);
  await running.atLeast(5);
  await context.sql("grant execute on function pg_try_advisory_lock(bigint) to public");
  await until(async () => (await listenBackends(context)).length === 1);
  assert.deepEqual(running.payloads, numbers(1, 5));
});

test("closing a database behind a silent line does not hang", async (context) => {
  const line = context.use(cutProxy(port(context.url)));
  const db = await connect(line.through(context.url));
  const running = new Running(db, { pollInterval: NEVER_POLL });
  await publish(context, 1, 1);
  await running.atLeast(1);
  await until(async () =>
    Number((await context.sql("select handled from hark.partitions"))[0].handled) === 1
  );
  line.silence();
  const closed = db.close();
  await within(closed, { deadline: 20_000, what: "close() to return" });
  await running.done;
});

test("a slow line is not a silent one", async (context) => {
  const since = Date.now();
  const line = context.use(cutProxy(port(context.url)));
  line.delay(150);
  const db = context.use(
    await connect(line.through(context.url), { heartbeat: 200, heartbeatTimeout: patient(1000) }),
  );
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await publish(context, 1, 3);
  await running.atLeast(3, { deadline: 20_000 });
  await publish(context, 4, 6);
  await running.atLeast(6, { deadline: 20_000 });
  assert.deepEqual(running.payloads, numbers(1, 6));
  await assert.rejects(said("warning", /./, since, { deadline: 300 }), "nothing was found wrong");
});
