/**
 * Exactly once: what a handler writes through `context.tx` commits together with the fact that the
 * notification is handled, or not at all. Here the handler fails after it has written, and its
 * writes are rolled back.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/exactly_once.ts
 */
import { connect, Consumer, migrate, notifyMany } from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("create table if not exists example_payments (number int, euros int)");
await db.query("truncate example_payments");

await notifyMany(
  db,
  [1, 2, 3].map((number) => ({ channel: "payments", payload: { number, euros: 10 } })),
);

const consumer = new Consumer<{ number: number; euros: number }>(db, {
  id: "example-exactly-once",
  channels: "payments",
  transactional: true,
  async handle({ payload: { number, euros }, attempt }, { tx }) {
    await tx.query("insert into example_payments values ($1, $2)", [number, euros]);
    console.log(`payment ${number} written, attempt ${attempt}`);
    if (number === 2 && attempt === 1) throw new Error("the light went out");
  },
  onError: (error) => console.log("rolled back:", (error as Error).message),
});
console.log(await consumer.drain(), "handled");

const { rows } = await db.query("select sum(euros)::int as euros from example_payments");
console.log(rows[0].euros, "euros: four inserts, three of them committed");
