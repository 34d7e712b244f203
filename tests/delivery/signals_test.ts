/** What a call of a handler makes of signals that outlive it. Deno and Node.js would keep it as long as these live. */

import assert from "node:assert/strict";
import { connect, Consumer, type ConsumerOptions } from "../../mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { test, until } from "../harness/mod.ts";

let calls = 0;
const handle: ConsumerOptions["handle"] = async (_, { signal }) => {
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal.throwIfAborted();
  calls++;
};
const kinds: Record<string, Pick<ConsumerOptions, "handleBatch" | "timeout" | "transactional">> = {
  "of one notification": {},
  "with a timeout": { timeout: 60_000 },
  "of a batch": { handleBatch: ([one], context) => handle(one!, context) },
  "in a transaction": { transactional: true },
};

for (const [kind, options] of Object.entries(kinds)) {
  test(`a handler ${kind} leaves nothing behind at a signal that lives longer`, async (context) => {
    const db = context.use(await connect(context.url));
    const id = { id: "c", channels: "c" };
    const consumer = new Consumer(
      db,
      options.handleBatch === undefined
        ? { ...id, ...options, handle }
        : { ...id, handleBatch: options.handleBatch, batchSize: 1 },
    );
    const { any } = AbortSignal;
    let derived = 0;
    AbortSignal.any = (signals) => {
      derived++;
      return any.call(AbortSignal, signals);
    };
    calls = 0;
    try {
      const running = consumer.run();
      await publish(context, 1, 100);
      await until(() => calls === 100);
      await consumer.stop();
      await running;
    } finally {
      AbortSignal.any = any;
    }
    assert.ok(derived < 20, `${derived} signals for 100 calls`);
  });
}

test("the signal of a call aborts if its run is abandoned, and no call has that of another", async (context) => {
  const db = context.use(await connect(context.url));
  const signals: AbortSignal[] = [];
  const running = context.use(
    new Running(db, {
      stopTimeout: 50,
      handle: ({ payload }, { signal }) => {
        signals.push(signal);
        return payload === 1 ? undefined : new Promise(() => {});
      },
    }),
  );
  await publish(context, 1, 2);
  await until(() => signals.length === 2);
  await running.stop();
  assert.deepEqual(signals.map((signal) => signal.aborted), [false, true]);
});
