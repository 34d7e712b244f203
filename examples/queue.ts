/**
 * A queue of the shape of Deno KV's, on PostgreSQL: a delay, a schedule of attempts, and a key under
 * which a value is found that was not delivered.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/queue.ts
 */
import { connect, migrate } from "@hark/postgres";
import { openQueue } from "@hark/postgres/deno-queue";

/** A message of the queue. */
interface Message {
  forUser: string;
  body: string;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await using kv = await openQueue(db, { name: "example-queue" });

const { promise: delivered, resolve } = Promise.withResolvers<void>();
kv.listenQueue(({ forUser, body }: Message) => {
  if (forUser === "user-0") throw new Error("there is no such user");
  console.log(`Dear ${forUser}: ${body}`);
  resolve();
});

const message: Message = { forUser: "alovelace", body: "You've got mail!" };
await kv.enqueue({ ...message, forUser: "user-0" }, {
  backoffSchedule: [10, 20],
  keysIfUndelivered: [["failed", "user-0"]],
});
await kv.enqueue(message, { delay: 300 });
await delivered;

// After three attempts.
for (;;) {
  const { value } = await kv.get<Message>(["failed", "user-0"]);
  if (value !== null) {
    console.log(`not delivered to ${value.forUser}`);
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
}
await kv.delete(["failed", "user-0"]);
