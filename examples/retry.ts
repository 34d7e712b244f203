/**
 * A consumer as a class, with a handler that fails at first: the notification is tried again, nothing
 * overtakes it, nothing is lost.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/retry.ts
 */
import { connect, Consumer, migrate, type Notification, notifyMany } from "@hark/postgres";

class Invoices extends Consumer<{ number: number }> {
  override readonly id = "example-invoices";
  override readonly channels = ["invoices"];

  override handle({ payload, attempt }: Notification<{ number: number }>): void {
    if (payload.number === 2 && attempt < 3) throw new Error("the printer is out of paper");
    console.log(`invoice ${payload.number}, attempt ${attempt}`);
  }
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await notifyMany(db, [1, 2, 3].map((number) => ({ channel: "invoices", payload: { number } })));

const invoices = new Invoices(db, {
  retry: { initial: 50 },
  onError: (error) => console.log("failed:", (error as Error).message),
});
console.log(await invoices.drain(), "handled");
