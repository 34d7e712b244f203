/**
 * Published now, delivered later; published twice, there once.
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

// What is delayed waits under a number, by which it can be taken back.
const number = await notify(db, "reminders", "never", { delay: 500 });
await cancelDelayed(db, number);

// Under a key of your own, the second within the time (a day unless given) publishes nothing.
const dedupe = { key: "welcome-7", within: 1000 };
const first = await notify(db, "reminders", "once", { dedupe });
const second = await notify(db, "reminders", "once", { dedupe });
if (first !== second) throw new Error("published twice");

await running;
