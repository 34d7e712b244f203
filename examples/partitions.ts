/**
 * Two workers share one consumer. Each key belongs to one partition, and one worker at a time
 * serves a partition. So the orders of one customer are handled in order, and different customers
 * in parallel.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/partitions.ts
 */
import { connect, Consumer, consumerDetails, migrate, notifyMany } from "@hark/postgres";

const url = Deno.env.get("DATABASE_URL");
await using db = await connect(url);
await migrate(db);

const id = "example-partitions";
const customers = ["ada", "bob", "cy", "fay", "gus", "hal", "ned"];
const steps = ["ordered", "paid", "sent"];
let left = customers.length * steps.length;
const done = new AbortController();

/** A worker. In production it would be a process of its own. */
async function work(name: string): Promise<void> {
  await using db = await connect(url);
  const consumer = new Consumer<{ step: string }>(db, {
    id,
    channels: "customers",
    partitions: 4,
    async handle({ key, payload }) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      console.log(`${name}: ${key} ${payload.step}`);
      if (--left === 0) done.abort();
    },
  });
  await consumer.run({ signal: done.signal });
}

const working = [work("first"), work("second")];
// Wait until each worker has its share: two partitions.
for (let shares = ""; shares !== "2 2";) {
  await new Promise((resolve) => setTimeout(resolve, 50));
  const found = await consumerDetails(db, id).catch(() => undefined); // not registered yet
  shares = found?.workerList.map(({ partitions }) => partitions.length).join(" ") ?? "";
}
await notifyMany(
  db,
  steps.flatMap((step) =>
    customers.map((key) => ({ channel: "customers", key, payload: { step } }))
  ),
);
await Promise.all(working);
