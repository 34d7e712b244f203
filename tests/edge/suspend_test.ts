/** That a server is asked nothing while consumers sleep, by the server's own log. */

import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { wakeHandler, wakeUp } from "../../src/edge/mod.ts";
import { Running } from "../faults/_support/running.ts";
import { partner } from "../handlers/_support/partner.ts";
import { type OwnServer, test, until } from "../harness/mod.ts";
import { statements, talkative } from "./_support/talkative.ts";

/** How long the server has to be left alone, in ms: many heartbeats, polls and leases of these tests. */
const left = Number(Deno.env.get("HARK_SLEEP_SECONDS") ?? 5) * 1000;
const secret = `whsec_${btoa("a secret of at least 24 bytes")}`;
const restless = {
  idle: "sleep",
  idleAfter: 500,
  pollInterval: 100,
  lease: 1000,
  acknowledgeInterval: 50,
} as const;

/** Waits until no statement has come for a while; gives how many there were. */
async function undisturbed(server: OwnServer): Promise<number> {
  let [count, since] = [-1, 0];
  await until(async () => {
    const now = (await statements(server)).length;
    if (now !== count) [count, since] = [now, performance.now()];
    return performance.now() - since >= left;
  }, { deadline: 4 * left + 20_000, what: `no statement for ${left} ms` });
  return count;
}

const timeout = 8 * left + 60_000;

test("while consumers sleep, no statement comes; NOTIFY wakes them", {
  schema: false,
  timeout,
}, async ({ use }) => {
  const server = use(await talkative());
  const db = use(await connect(server.url, { heartbeat: 100, applicationName: "hark-test" }));
  const some = ["a", "b", "c"].map((id) => use(new Running(db, { ...restless, id, channels: id })));
  const count = await undisturbed(server);
  assert(count > 0, "it is the log of these programs");
  const publisher = use(await connect(server.url));
  for (const one of ["a", "b", "c"]) await notify(publisher, one, 1);
  await Promise.all(some.map((one) => one.atLeast(1)));
  assert((await statements(server)).length > count);
  await undisturbed(server); // and they sleep again
});

test("while consumers without LISTEN sleep, none is connected; a request wakes them", {
  schema: false,
  timeout,
}, async (context) => {
  const server = context.use(await talkative());
  const db = context.use(
    await connect(server.url, { listen: false, applicationName: "hark-test" }),
  );
  const one = context.use(new Running(db, restless));
  const handler = wakeHandler(one.consumer, { secret });
  const { origin } = partner(
    context,
    ({ headers, body }) =>
      handler(new Request("http://localhost", { method: "POST", headers, body })),
  );
  await undisturbed(server);
  const open = "select from pg_stat_activity where application_name = 'hark-test'";
  assert.deepEqual(await server.sql(open), []);
  const publisher = context.use(await connect(server.url));
  await notify(publisher, "c", 1);
  await wakeUp(origin, { secret });
  await one.atLeast(1);
  await undisturbed(server);
});
