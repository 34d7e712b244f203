import assert from "node:assert/strict";
import { connect, Consumer, notifyMany } from "../../mod.ts";
import { connect as plain, disconnect, test, until } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { said } from "./_support/logs.ts";
import {
  Gate,
  killBackends,
  listenBackends,
  NEVER_POLL,
  numbers,
  publish,
  readerBackends,
  Reading,
  Running,
} from "./_support/running.ts";

test("a backlog longer than a page is handled whole, and live ones after it in order", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, numbers(1, 1000).map((payload) => ({ channel: "c", payload })));
  const gate = new Gate(100);
  const running = context.use(
    new Running(db, { pageSize: 100, pollInterval: NEVER_POLL, handle: gate.handle }),
  );
  const reading = context.use(
    new Reading(db, "c", { from: "beginning", pageSize: 100, pollInterval: NEVER_POLL }),
  );
  await gate.reached();
  await publish(context, 1001, 1010); // live ones, while the backlog is handled
  gate.open();
  await running.atLeast(1010);
  await reading.inbox.atLeast(1010);
  assert.deepEqual(running.payloads, numbers(1, 1010));
  assert.deepEqual(reading.payloads, numbers(1, 1010));
});

test("what is published between the replay and LISTEN is handled promptly, whenever it falls", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  for (let round = 0; round < 25; round++) {
    // A Database of its own: each time LISTEN is made anew, beside a publisher that does not wait.
    await using own = await connect(context.url);
    const running = new Running(own, { id: `c${round}`, pollInterval: NEVER_POLL });
    const reading = new Reading(own, `s${round}`, {
      from: "beginning",
      pollInterval: NEVER_POLL,
    });
    for (let n = 2; running.inbox.items.length === 0; n++) {
      await notifyMany(db, [{ channel: "c", payload: n }, { channel: `s${round}`, payload: n }]);
    }
    const [{ last }] = await context.sql(
      "select max(id)::int as last from hark.log where channel = 'c'",
    );
    await until(() => running.inbox.items.at(-1)?.id === last);
    const [{ count }] = await context.sql("select count(*)::int from hark.log where channel = 'c'");
    assert.equal(running.payloads.length, count);
    await until(() => reading.inbox.items.at(-1)?.id === last + 1);
    await running.stop();
    await reading[Symbol.asyncDispose]();
  }
});

test("a rare channel in a busy log is found at once", async (context) => {
  const db = context.use(await connect(context.url));
  const noise = (count: number) => ({ channel: "noise", payload: count });
  await notifyMany(db, numbers(1, 30_000).map(noise));
  await publish(context, 1, 1);
  await notifyMany(db, numbers(1, 30_000).map(noise));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await running.atLeast(1);
  await notifyMany(db, numbers(1, 30_000).map(noise));
  await publish(context, 2, 2);
  await running.atLeast(2);
  assert.deepEqual(running.payloads, [1, 2]);
});

test("the connection limit is reached: run() and connect() say so at once, a running one waits it out", async (context) => {
  const { name, url } = await role(context);
  await context.sql("select hark.grant_publish($1), hark.grant_consume($1)", [name]);
  const db = context.use(await connect(url, { maxReconnectDelay: 300 }));
  const running = context.use(new Running(db, { pollInterval: 100 }));
  await publish(context, 1, 1);
  await running.atLeast(1);

  const since = Date.now();
  await context.sql(`alter role ${name} connection limit 0`);
  // Both at once: without LISTEN the other is in doubt, and is closed.
  await killBackends(context, async (on) => [
    ...await listenBackends(on),
    ...await readerBackends(on),
  ]);
  await said("warning", /No LISTEN connection.*too many connections/, since);
  await said("warning", /c was interrupted.*too many connections/, since);
  await assert.rejects(connect(url), { message: /too many connections/ });
  const late = new Consumer(db, { id: "late", channels: "c", handle() {} });
  await assert.rejects(late.run(), { message: /too many connections/ });
  await publish(context, 2, 3);

  await context.sql(`alter role ${name} connection limit -1`);
  await running.atLeast(3);
  await said("info", /LISTEN connection is back/, since);
  assert.deepEqual(running.payloads, [1, 2, 3]);
});

test("a transaction that stays open holds up no others' notifications", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  const slow = await plain(context.url);
  try {
    await slow.query("begin");
    await slow.query("select hark.notify('c', '1')");
    await publish(context, 2, 100);
    await running.atLeast(99);
    await slow.query("commit");
    await running.atLeast(100);
    assert.deepEqual(running.payloads, [...numbers(2, 100), 1]);
  } finally {
    await disconnect(slow);
  }
});
