/**
 * A notification exists if and only if the transaction that published it commits. Here the
 * transaction is your own, on your own driver.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/transaction.ts
 */
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer, migrate, notify } from "@hark/postgres";

const url = Deno.env.get("DATABASE_URL");
await using db = await connect(url);
await migrate(db);

const client = new pg.Client({ connectionString: url });
client.on("error", (error) => console.error(error.message));
await client.connect();
try {
  await client.query(
    "create table if not exists example_orders (id bigint primary key, state text)",
  );
  for (const [id, end] of [[1, "commit"], [2, "rollback"]] as const) {
    await client.query("begin");
    await client.query(
      "insert into example_orders values ($1, 'paid') on conflict (id) do update set state = 'paid'",
      [id],
    );
    await notify(client, "paid", { id }, { key: `order-${id}`, headers: { by: "example" } });
    await client.query(end);
  }
} finally {
  await client.end();
}

const consumer = new Consumer(db, {
  id: "example-transaction",
  channels: "paid",
  handle: ({ key, payload, headers }) => console.log(key, payload, headers),
});
console.log(await consumer.drain(), "handled");
