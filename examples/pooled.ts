/**
 * A worker behind a pooler in transaction mode, such as pgbouncer. LISTEN does not pass through it, so the
 * worker polls: again 50 ms after it has found something, and then more and more seldom. What is set for a
 * transaction, such as a context, stays in it.
 *
 *     DATABASE_URL=postgres://…:6432/… deno run -P=example examples/pooled.ts
 */
import { connect, Consumer, migrate, notify, setContext } from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"), { listen: false });
await migrate(db);

const stop = new AbortController();
const consumer = new Consumer<{ id: number }>(db, {
  id: "example-pooled",
  channels: "example-pooled",
  transactional: true,
  async handle({ payload, headers }, { tx }) {
    // Committed if and only if the order counts as handled.
    await notify(tx, "example-pooled-bills", { order: payload.id });
    console.log(`order ${payload.id} of ${headers?.by}`);
    if (payload.id === 3) stop.abort();
  },
});
const running = consumer.run({ signal: stop.signal });
await consumer.ready;

await db.transaction(async (tx) => {
  await setContext(tx, { by: "ada" });
  for (const id of [1, 2, 3]) await notify(tx, "example-pooled", { id }, { key: "ada" });
});
await running;
