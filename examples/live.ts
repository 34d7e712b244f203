/**
 * Publish, then read: a notification from before the consumer existed, and notifications that
 * arrive while it runs.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/live.ts
 */
import { connect, Consumer, migrate, notify } from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);

await notify(db, "example-live", { id: 1 });

const consumer = new Consumer<{ id: number }>(db, {
  id: "example-live",
  channels: "example-live",
  async handle({ payload, isReplay }) {
    console.log(isReplay ? "replayed" : "live", payload.id);
    // A handler may publish; the consumer receives that like any other notification.
    if (payload.id < 3) await notify(db, "example-live", { id: payload.id + 1 });
    else stop.abort();
  },
});
const stop = new AbortController();
await consumer.run({ signal: stop.signal });
