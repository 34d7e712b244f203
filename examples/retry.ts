/**
 * A consumer as a class, whose handler fails in every possible way. A failed notification is
 * retried with growing delays and blocks only its own key. A notification that is given up becomes
 * a dead letter.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/retry.ts
 */
import {
  connect,
  Consumer,
  DeadLetter,
  migrate,
  type Notification,
  notifyMany,
  RetryAfter,
} from "@hark/postgres";

class Invoices extends Consumer<{ number: number }> {
  override readonly id = "example-invoices";
  override readonly channels = ["invoices"];

  override handle({ payload: { number }, attempt }: Notification<{ number: number }>): void {
    // Hopeless: given up at once.
    if (number === 2) throw new DeadLetter("there is no such customer");
    // Given up after maxAttempts.
    if (number === 3) throw new Error("the address is odd");
    if (number === 4 && attempt === 1) throw new RetryAfter(700, "the printer warms up");
    console.log(`invoice ${number} printed, attempt ${attempt}`);
  }
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await notifyMany(
  db,
  [1, 2, 3, 4, 5].map((number) => ({ channel: "invoices", payload: { number } })),
);

const invoices = new Invoices(db, {
  retry: { initial: 50 }, // then about 100, 200, … up to 10 minutes
  maxAttempts: 3,
  onError: (error, { payload, attempt }) =>
    console.log(`invoice ${payload.number}, attempt ${attempt}: ${(error as Error).message}`),
  onDeadLetter: (_error, { payload }) => console.log(`invoice ${payload.number} is a dead letter`),
});
console.log(await invoices.drain(), "handled");
