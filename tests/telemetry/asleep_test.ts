/** What metrics tell of a database while all that could measure it sleep. */

import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { monitor } from "../../src/metrics/mod.ts";
import { Running } from "../faults/_support/running.ts";
import { deferred, test, until } from "../harness/mod.ts";

test("a process that sleeps repeats no old figures, and does not say that it measures", async ({ url, use }) => {
  using ask = monitor();
  const read = async (path: string) =>
    await (await ask(new Request(`http://localhost${path}`))).text();
  const db = use(await connect(url));
  const measured = deferred("the database to be measured");
  const running = use(
    new Running(db, {
      idle: "sleep",
      idleAfter: 1000,
      partitions: 1,
      retry: { initial: "1h" },
      async handle() {
        await measured.wait();
        throw new Error("not now");
      },
    }),
  );
  await notify(db, "c", 1);
  await running.atLeast(1);
  // It stays awake while its handler runs, however long the database takes to be measured.
  await until(async () => /^hark_reporting\{[^}]*\} 1$/m.test(await read("/metrics")), {
    what: "the process to report",
  });
  measured.resolve();
  const asleep = async () => (await read("/readyz")).includes('"asleep"');
  await until(asleep, { what: "the consumer to sleep" });
  const now = performance.now;
  let later: string;
  try {
    performance.now = () => now.call(performance) + 61_000;
    later = await read("/metrics");
  } finally {
    performance.now = now;
  }
  assert.match(later, /^hark_reporting\{[^}]*\} -1$/m);
  assert.doesNotMatch(later, /^hark_(consumer_lag|consumer_waiting|log_rows|delayed_due)\b/m);
  // It has asked nothing: the consumer sleeps on.
  assert.ok(await asleep());
});
