/**
 * README's program with a bug in its handler; LogTape is configured as the second argument says.
 *
 * @module
 */

import { configureSync, getConsoleSink, type LogRecord } from "@logtape/logtape";
import { connect, Consumer, notify } from "../../../mod.ts";

const [url, when = "never"] = Deno.args;
const meta = { category: "logtape", sinks: [] };
if (when === "other") {
  const console = getConsoleSink();
  configureSync({ sinks: { console }, loggers: [meta, { category: "app", sinks: ["console"] }] });
}
if (when === "nothing") configureSync({ sinks: {}, loggers: [meta] });

function bill(order: { customer?: { name: string } }): string {
  return order.customer!.name; // the bug
}

const db = await connect(url);
await notify(db, "orders", { secret: "payload-4711" });
const failed = Promise.withResolvers<void>();
const consumer = new Consumer(db, {
  id: "billing",
  channels: "orders",
  maxAttempts: 2,
  retry: { initial: 50 },
  handle({ payload, attempt }) {
    if (attempt === 2 && when === "later") {
      const sinks = { app: (record: LogRecord) => console.error("app:", record.level) };
      configureSync({ sinks, loggers: [meta, { category: "hark", sinks: ["app"] }] });
    }
    bill(payload);
  },
  onDeadLetter: () => failed.resolve(),
});
const running = consumer.run();
await failed.promise;
await consumer.stop();
await running;
await db.close();
