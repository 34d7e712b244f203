import assert from "node:assert/strict";
import { connect, subscribe } from "../../mod.ts";
import { test, within } from "../harness/mod.ts";
import { Gate, NEVER_POLL, publish, Reading, Running } from "./_support/running.ts";

// A window that is read page by page may end in a page without rows. What was committed, and rang, after
// the window was opened and before that last page, is in the next window: no publisher rings for it again.

test("a consumer woken in the middle of a window reads on, though its last page is empty", async (context) => {
  const db = context.use(await connect(context.url));
  const late = await context.client();
  await publish(context, 1, 1);
  await late.query("begin");
  await late.query("select hark.notify('c', '2')");
  const gate = new Gate(1);
  const busy = context.use(
    new Running(db, { id: "busy", pageSize: 1, pollInterval: NEVER_POLL, handle: gate.handle }),
  );
  const beside = context.use(new Running(db, { id: "beside", pollInterval: NEVER_POLL }));
  await gate.reached();
  await beside.atLeast(1);
  await late.query("commit");
  await beside.atLeast(2); // by the same LISTEN: the other one's bell has been rung too
  gate.open();
  await busy.atLeast(2);
  assert.deepEqual(busy.payloads, [1, 2]);
});

test("a subscription woken in the middle of a window reads on, though its last page is empty", async (context) => {
  const db = context.use(await connect(context.url));
  const late = await context.client();
  await publish(context, 1, 1);
  await late.query("begin");
  await late.query("select hark.notify('c', '2')");
  const slow = subscribe(db, "c", { from: "beginning", pageSize: 1, pollInterval: NEVER_POLL });
  assert.equal((await slow.next()).value?.payload, 1);
  const beside = context.use(new Reading(db, "c", { from: "beginning", pollInterval: NEVER_POLL }));
  await beside.inbox.atLeast(1);
  await late.query("commit");
  await beside.inbox.atLeast(2);
  const { value } = await within(slow.next(), { what: "the late one" });
  assert.equal(value?.payload, 2);
  await slow.return();
});
