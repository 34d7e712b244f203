/**
 * Typed channels. What is published is checked first. What is handled is what the schema makes of it:
 * dates and sets. Payloads of an older version are upgraded, those of SQL too.
 *
 *     DATABASE_URL=postgres://… deno run -P=example --lock=dev.lock examples/typed.ts
 */
import { connect, Consumer, type HarkError, migrate, on } from "@hark/postgres";
import { paid, refunded } from "./channels.ts";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);

await paid.notify(db, {
  id: "order-1",
  total: 20,
  currency: "CHF",
  at: "2026-11-29T12:00:00Z",
  tags: ["gift"],
});
await refunded.notify(db, { id: "order-1", total: 20 });
// A trigger that knows nothing of versions.
await db.query(`select hark.notify('orders.paid', '{"id": "order-2", "total": 5}', 'order-2')`);
try {
  await refunded.notify(db, { id: "order-3", total: NaN });
} catch (error) {
  console.log((error as HarkError).code);
}

const billing = new Consumer(db, {
  id: "example-billing",
  handle: on(paid, ({ id, total, currency, at, tags }) => {
    console.log(id, total, currency, at.getUTCFullYear(), tags.has("gift"));
  }).on(refunded, (order, notification) => console.log(order.id, "refunded", notification.key)),
});
console.log(await billing.drain(), "handled");
