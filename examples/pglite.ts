/**
 * No server at all: PGlite is PostgreSQL inside this process. It has only one session, so there is
 * no second one to LISTEN, and the consumer polls.
 *
 *     deno run -P=pglite --lock=dev.lock examples/pglite.ts
 */
import { PGlite } from "npm:@electric-sql/pglite@0.5.16";
import { Consumer, migrate, notify } from "@hark/postgres";

const db = new PGlite();
await migrate(db);

await db.transaction(async (tx) => {
  await tx.query("create table notes (text text)");
  await tx.query("insert into notes values ('hello')");
  await notify(tx, "notes", { text: "hello" });
});

const consumer = new Consumer(db, {
  id: "example-pglite",
  channels: "notes",
  handle: ({ id, payload }) => console.log(id, payload),
});
console.log(await consumer.drain(), "handled");
await db.close();
