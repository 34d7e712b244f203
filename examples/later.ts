/**
 * Delayed notifications and dedupe keys: publish now and deliver later; publish twice and deliver
 * once.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/later.ts
 */
import { cancelDelayed, connect, Consumer, migrate, notify } from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);

const consumer = new Consumer<string>(db, {
  id: "example-later",
  channels: "reminders",
  handle({ payload }) {
    console.log(payload);
    if (payload === "a second later") stop.abort();
  },
});
const stop = new AbortController();
const running = consumer.run({ signal: stop.signal });

await notify(db, "reminders", "a second later", { delay: 1000 });

// A delayed notification has a number, by which you can cancel it.
const number = await notify(db, "reminders", "never", { delay: 500 });
await cancelDelayed(db, number);

// Under a dedupe key, the second call within the given time (a day by default) publishes nothing.
const dedupe = { key: "welcome-7", within: 1000 };
const first = await notify(db, "reminders", "once", { dedupe });
const second = await notify(db, "reminders", "once", { dedupe });
if (first !== second) throw new Error("published twice");

await running;
