/**
 * Reading without registering a consumer, for a live view. The body of the loop sets the pace.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/stream.ts
 */
import { connect, migrate, notify, subscribe } from "@hark/postgres";

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);

const first = await notify(db, "temperatures", { celsius: 20 });
let celsius = 20;
for await (const { payload } of subscribe(db, "temperatures", { from: { id: first } })) {
  console.log(payload.celsius);
  if (payload.celsius === 23) break;
  await notify(db, "temperatures", { celsius: ++celsius });
}
