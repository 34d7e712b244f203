/** Which rows of sleepers a heartbeat renews, and how often. */

import assert from "node:assert/strict";
import { connect, subscribe } from "../../mod.ts";
import { renewalAt, renewByHeartbeat, SleeperRow } from "../../src/consume/state/sleepers.ts";
import { Bell } from "../../src/database/bell.ts";
import { connectionsOf } from "../../src/database/database.ts";
import { NEVER_POLL, publish } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";

test("a subscription is not kept asleep while its loop is busy: publishers would notify it in vain", async (context) => {
  const db = context.use(await connect(context.url));
  const listener = await connectionsOf(db)!.listener();
  // Its row is due within 70 s, and valid for 120 s.
  const isRenewed = () => renewalAt(performance.now() + 70_000, listener).sleepers !== "{}";
  const stop = new AbortController();
  const loop = subscribe(db, "c", { pollInterval: NEVER_POLL, signal: stop.signal });
  let next = loop.next();
  await until(isRenewed, { what: "it to sleep" });
  await publish(context, 1, 1);
  assert.equal((await next).value?.payload, 1);
  assert(!isRenewed(), "it has not come back for more");
  next = loop.next();
  await until(isRenewed, { what: "it to sleep again" });
  stop.abort();
  await next;
});

test("heartbeats write the row of a sleeper once a minute", async (context) => {
  const db = context.use(await connect(context.url));
  const listener = await connectionsOf(db)!.listener();
  const bell = new Bell();
  const row = new SleeperRow("00000000-0000-0000-0000-000000000001", 1, bell);
  row.sleptAt = bell.count;
  const end = renewByHeartbeat(listener!, row);
  const times: number[] = [];
  row.stored(7_000);
  for (let now = 10_000; now <= 607_000; now += 3_000) {
    assert(now < row.until, "it never expires");
    const renewal = renewalAt(now, listener);
    if (renewal.sleepers === "{}") continue;
    times.push(now / 1000);
    renewal.answered(`{"${row.sleeper}": 1}`);
  }
  end();
  assert.deepEqual(times, [52, 112, 172, 232, 292, 352, 412, 472, 532, 592]);
});
