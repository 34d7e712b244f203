/** When a failed notification comes again, as the option retry says. */

import assert from "node:assert/strict";
import { connect, Consumer, type Notification, type RetryDecision } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { said } from "../faults/_support/logs.ts";
import { publish, Running } from "../faults/_support/running.ts";

class Declined extends Error {}

test("a function of a class decides when a notification comes again, and when it is given up", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2);
  class Billing extends Consumer<number> {
    override id = "c";
    override channels = "c";
    readonly asked: string[] = [];
    override retry: RetryDecision<number> = (error, attempt, { payload }) => {
      this.asked.push(`${payload}/${attempt} ${(error as Error).message}`);
      return payload === 2 ? "dead" : "5ms";
    };
    override handle({ payload, attempt }: Notification<number>) {
      if (attempt < 3) throw new Error(`bad ${payload}`);
    }
  }
  const billing = new Billing(db);
  assert.equal(await billing.drain(), 1);
  // On a busy machine 5 ms are over before the second one begins.
  assert.deepEqual(billing.asked.toSorted(), ["1/1 bad 1", "1/2 bad 1", "2/1 bad 2"]);
  assert.deepEqual(await context.sql("select id::int, attempts, error from hark.dead"), [
    { id: 2, attempts: 1, error: "bad 2" },
  ]);
});

test("an error that is never retried is a dead letter at once, and its key goes on", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const running = context.use(
    new Running(db, {
      retry: { initial: 10, factor: 1, never: [Declined] },
      handle: ({ payload, attempt }) => {
        if (payload === 1) throw new Declined("no");
        if (payload === 2 && attempt < 3) throw new Error("again");
      },
    }),
  );
  await running.atLeast(5);
  await until(async () => (await context.sql("select from hark.dead")).length === 1);
  assert.deepEqual(running.payloads.filter((n) => n === 1), [1]);
});

test("a function retry that fails is told in the log, and the notification comes again", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  const since = Date.now();
  const running = context.use(
    new Running(db, {
      retry: () => {
        throw new Error("a fault of its own");
      },
      handle: ({ attempt }) => {
        if (attempt === 1) throw new Error("once");
      },
    }),
  );
  await running.atLeast(2);
  await said("error", /retry could not decide about notification 1.*a fault of its own/, since);
});
