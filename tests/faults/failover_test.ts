import assert from "node:assert/strict";
import { connect, subscribe } from "../../mod.ts";
import { cutProxy, ownServer, until, within } from "../harness/mod.ts";
import { Line } from "./_support/line.ts";
import { numbers, publish, Reading, Running } from "./_support/running.ts";
import { standbyOf } from "./_support/standby.ts";

const quick = { heartbeat: 500, maxReconnectDelay: 500 };

Deno.test("a fail-over to a standby that lacks the last of the log loses nothing published there", async () => {
  await using primary = await ownServer();
  await using replication = cutProxy(primary.port);
  await using standby = await standbyOf(primary, replication.port);
  await using beside = await connect(standby.url, { listen: false });
  await using line = new Line(primary.port);
  await using db = await connect(line.through(primary.url), quick);
  await using running = new Running(db, { id: "c", pollInterval: 100 });
  await using reading = new Reading(db, "c", { from: "beginning", pollInterval: 100 });
  await publish(primary, 1, 3);
  await running.atLeast(3);
  await reading.inbox.atLeast(3);
  await until(async () =>
    (await beside.query("select handled = 3 as ok from hark.partitions")).rows[0]?.ok
  );

  // What comes now never reaches the standby: handled there, gone here, its ids and numbers given again.
  replication.refuse();
  await publish(primary, 101, 105);
  await running.atLeast(8);
  await reading.inbox.atLeast(8);
  line.target = standby.port;
  await primary.kill();
  line.sever();
  await beside.query("select pg_promote()");
  const on = {
    sql: async (text: string, values?: unknown[]) => (await beside.query(text, values)).rows,
  };
  // A standby draws ids and numbers from a little ahead of where it stood: as many as were lost, and more.
  await publish(on, 201, 260);

  for (const [what, payloads] of [["consumer", running], ["subscription", reading]] as const) {
    await until(() => numbers(201, 260).every((n) => payloads.payloads.includes(n)), {
      deadline: 40_000,
      what: `the ${what} to have all that the new primary published`,
    });
  }
  assert.deepEqual(running.payloads.filter((n) => Number(n) > 200), numbers(201, 260));
  await publish(on, 261, 261);
  await until(() => running.payloads.includes(261) && reading.payloads.includes(261));
});

Deno.test("a fail-over while a subscription is in the middle of its first window loses nothing of the rest", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary, primary.port);
  await using beside = await connect(standby.url, { listen: false });
  await using line = new Line(primary.port);
  await using db = await connect(line.through(primary.url), quick);
  await publish(primary, 1, 200);
  const reading = subscribe<number>(db, "c", { from: "beginning", pageSize: 10 });
  const seen = new Set<number>();
  const next = async () => {
    const { value } = await within(reading.next(), { deadline: 40_000, what: "the next one" });
    seen.add(value!.payload);
  };
  for (let n = 0; n < 25; n++) await next();
  await until(async () =>
    (await beside.query("select count(*) = 200 as ok from hark.log")).rows[0]?.ok
  );
  line.target = standby.port;
  await primary.kill();
  line.sever();
  await beside.query("select pg_promote()");
  while (seen.size < 200) await next();
  assert.deepEqual([...seen].sort((a, b) => a - b), numbers(1, 200));
  await reading.return();
});
