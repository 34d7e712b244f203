import assert from "node:assert/strict";
import { connect, Consumer, subscribe } from "../../mod.ts";
import { ownServer, until } from "../harness/mod.ts";
import { Line } from "./_support/line.ts";
import { said } from "./_support/logs.ts";
import { NEVER_POLL, publish, Reading, Running } from "./_support/running.ts";
import { standbyOf } from "./_support/standby.ts";

const quick = { heartbeat: 500, maxReconnectDelay: 500 };

Deno.test("a reconnect that lands on a standby is said loudly and tried again; fail-over to it works", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using line = new Line(primary.port);
  await using db = await connect(line.through(primary.url), quick);
  await using running = new Running(db, { pollInterval: NEVER_POLL });
  await using reading = new Reading(db, "c", { from: "beginning", pollInterval: NEVER_POLL });
  await publish(primary, 1, 3);
  await running.atLeast(3);
  await reading.inbox.atLeast(3);

  // The line leads to the standby now, as a name that has moved too early does.
  let since = Date.now();
  line.target = standby.port;
  line.sever();
  await said("warning", /No LISTEN connection.*standby.*primary/, since);
  await said("warning", /c was interrupted.*(standby|read-only)/, since);
  await said("warning", /Reading was interrupted.*(standby|read-only)/, since);
  await publish(primary, 4, 5);

  // Back to the primary: nothing is lost, and LISTEN works again.
  line.target = primary.port;
  line.sever();
  await running.atLeast(5, { deadline: 20_000 });
  await reading.inbox.atLeast(5, { deadline: 20_000 });
  await said("info", /LISTEN connection is back/, since);
  await publish(primary, 6, 6);
  await running.atLeast(6);
  await reading.inbox.atLeast(6);
  assert.deepEqual(running.payloads, [1, 2, 3, 4, 5, 6]);

  // A real fail-over: the primary is gone, the standby takes its place.
  const stored = "select handled from hark.partitions";
  await until(async () => Number((await primary.sql(stored))[0].handled) === 6);
  const lsn = (await primary.sql("select pg_current_wal_flush_lsn() as lsn"))[0].lsn;
  await using beside = await connect(standby.url, { listen: false });
  await until(async () =>
    (await beside.query("select pg_last_wal_replay_lsn() >= $1::pg_lsn as ok", [lsn])).rows[0].ok
  );
  since = Date.now();
  await primary.kill();
  line.target = standby.port;
  line.sever();
  await said("warning", /No LISTEN connection/, since);
  await beside.query("select pg_promote()");
  const on = {
    sql: async (text: string, values?: unknown[]) => (await beside.query(text, values)).rows,
  };
  await publish(on, 7, 8);
  await running.atLeast(8, { deadline: 30_000 });
  await until(() => reading.payloads.includes(8), { deadline: 30_000 });
  assert.deepEqual(running.payloads.slice(6), [7, 8], "what was stored is not handled again");
  assert.deepEqual([...new Set(reading.payloads)], [1, 2, 3, 4, 5, 6, 7, 8]);
  await said("info", /LISTEN connection is back/, since);
  await publish(on, 9, 9);
  await running.atLeast(9);
});

Deno.test("who starts on a standby is told so at once", async () => {
  await using primary = await ownServer();
  await publish(primary, 1, 1);
  await using standby = await standbyOf(primary);
  await using db = await connect(standby.url);
  const expected = { code: "NOT_PRIMARY", remedy: /primary/ };
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  await assert.rejects(consumer.run(), expected);
  await assert.rejects(consumer.drain(), expected);
  await assert.rejects(subscribe(db, "c").next(), expected);
  await assert.rejects(db.query("select hark.notify('c')"), expected);
  // A statement of a worker that was connected to the primary a moment ago may be the first to meet it.
  const sleep = "select hark.sleep(gen_random_uuid(), array['c'], 1, 1000)";
  for (
    const statement of [sleep, "select hark.cut()", "select hark.leave('c', gen_random_uuid())"]
  ) {
    await assert.rejects(db.query(statement), expected, statement);
  }
});
