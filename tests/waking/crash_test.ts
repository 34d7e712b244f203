/** Crashes of the server, which take the rows of those who sleep with them. */

import { connect } from "../../mod.ts";
import { Reading, Running } from "../faults/_support/running.ts";
import { ownServer } from "../harness/mod.ts";
import { asleep, RARELY } from "./_support/sleeping.ts";

Deno.test("after a crash of the server readers sleep again, and are woken", async () => {
  await using server = await ownServer();
  await using db = await connect(server.url, { maxReconnectDelay: 200 });
  await using running = new Running(db, { pollInterval: RARELY });
  await using reading = new Reading(db, "c", { pollInterval: RARELY });
  await asleep(server, 2);
  await server.sql("select hark.notify('c', '1')");
  await running.atLeast(1);
  await server.kill();
  await server.start();
  await asleep(server, 2);
  await server.sql("select hark.notify('c', '2')");
  await running.atLeast(2);
  await reading.inbox.atLeast(2);
});
