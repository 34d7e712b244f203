import assert from "node:assert/strict";
import { connect, Consumer, notify } from "../../mod.ts";
import { cutProxy, test, until } from "../harness/mod.ts";
import { logged, said, sentence } from "./_support/logs.ts";

test("maxReconnectDelay bounds every wait before a consumer connects again", async (context) => {
  const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
  const db = context.use(await connect(line.through(context.url), { maxReconnectDelay: 60 }));
  const handled: number[] = [];
  const consumer = new Consumer<number>(db, {
    id: "again",
    channels: "orders",
    handle: ({ payload }) => void handled.push(payload),
  });
  const running = consumer.run();
  await consumer.ready;
  const since = Date.now();
  line.refuse();
  const interrupted = /^again was interrupted, trying again in /;
  await said("warning", interrupted, since);
  const waits = () =>
    logged.items.filter((record) => record.timestamp >= since && interrupted.test(sentence(record)))
      .map(({ properties }) => Number(properties.wait));
  // Without the bound they would be 50, 100, 200, 400 … ms, less up to a half.
  await until(() => Promise.resolve(waits().length >= 8), { what: "eight waits" });
  assert(waits().every((wait) => wait <= 60), waits().join(", "));
  line.resume();
  await notify(context.admin, "orders", 1);
  await until(() => Promise.resolve(handled.length === 1));
  await consumer.stop();
  await running;
});
