/**
 * Handles several notifications in one call: all that are available, up to `batchSize`. The handler
 * marks a failed one with `context.fail`, and it is delivered again. The others are done.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/batch.ts
 */
import { connect, Consumer, migrate, notifyMany } from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await notifyMany(
  db,
  ["ada", "bob", "cy", "dee", "eve"].map((to) => ({ channel: "mail", payload: { to } })),
);

let full = true; // whether bob's mailbox is full

/**
 * Sends many mails at once, as mail services do, and returns the addresses that it could not reach.
 */
function send(all: readonly string[]): string[] {
  console.log("sent to", all.join(", "));
  return full ? all.filter((to) => to === "bob") : [];
}

const consumer = new Consumer<{ to: string }>(db, {
  id: "example-batch",
  channels: "mail",
  batchSize: 3,
  handleBatch(mails, { fail }) {
    const refused = send(mails.map(({ payload }) => payload.to));
    for (const mail of mails) {
      if (refused.includes(mail.payload.to)) fail(mail, new Error("mailbox full"));
    }
    full = false;
  },
  onError: (error, { payload }) => console.log(`${payload.to}: ${(error as Error).message}`),
});
console.log(await consumer.drain(), "handled");
