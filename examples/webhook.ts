/**
 * A webhook: each change is posted to another party's server, signed by Standard Webhooks. A change
 * that the server refuses temporarily is sent again, with growing delays. The header `webhook-id` lets
 * the server recognise a change that it already has, because its answer may have been lost.
 *
 *     DATABASE_URL=postgres://… deno run -P=example examples/webhook.ts
 */
import { connect, Consumer, migrate, watch, watched } from "@hark/postgres";
import { webhook, WebhookError } from "@hark/postgres/handlers";

interface Shipment {
  id: number;
  state: string;
}

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await db.query("drop table if exists example_shipments");
await db.query("create table example_shipments (id int primary key, state text)");

const shipments = watched<Shipment, "id">("public.example_shipments", { payload: "new" });
await watch(db, shipments);
await db.query("insert into example_shipments values (1, 'packed'), (2, 'packed'), (3, 'lost')");

// The other party's server. It refuses 1 once, then accepts it but answers with an error. It never
// accepts 3.
const taken = new Set<string>();
let requests = 0;
const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
  const key = request.headers.get("webhook-id")!;
  const { id, new: row } = await request.json();
  if (id === 3) return new Response("lost is not a known state", { status: 422 });
  if (id === 1) requests++;
  if (id === 1 && requests === 1) return new Response("we are closed", { status: 503 });
  console.log(taken.has(key) ? `${id} was received before` : `${id} is accepted: ${row.state}`);
  taken.add(key);
  return new Response("", { status: id === 1 && requests === 2 ? 500 : 200 });
});

const consumer = new Consumer(db, {
  id: "example-webhook",
  channels: shipments.channel,
  concurrency: 10, // the changes of one shipment still come in order
  handle: webhook({
    url: `http://127.0.0.1:${server.addr.port}/shipments`,
    secret: "whsec_dGhpcyBpcyBubyBzZWNyZXQsIGJ1dCBhbiBleGFtcGxl",
    timeout: "10s",
    allowPrivateAddresses: true, // only as the server of this example is on this machine
  }),
  // An error in the request itself does not go away with time.
  retry: (error, attempt) =>
    error instanceof WebhookError && error.status === 422 ? "dead" : attempt * 50,
  onError: (error, { key, attempt }) =>
    console.log(
      `${key} failed, attempt ${attempt}: ${(error as Error).message.replace(/^.* answered /, "")}`,
    ),
});
console.log(await consumer.drain(), "handled");
await server.shutdown();
