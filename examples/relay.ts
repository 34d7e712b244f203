/**
 * Publishes what is committed in PostgreSQL to a stream of NATS JetStream.
 *
 *     DATABASE_URL=postgres://… deno run --allow-net --allow-env examples/relay.ts
 *
 * It needs a NATS server: `nats-server -js`.
 *
 * @module
 */

import { connect, migrate, notify } from "@hark/postgres";
import { jetStream, relay } from "@hark/postgres/relay";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";

const servers = Deno.env.get("NATS_URL") ?? "nats://127.0.0.1:4222";

// Usually made once, by hand: nats stream add SHOP --subjects 'shop.>'
const nats = await connectNats({ servers });
const streams = (await jetstreamManager(nats)).streams;
await streams.add({ name: "HARK_EXAMPLE", subjects: ["shop.>"], max_msgs: 1_000 });

await using db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
await notify(db, "orders", { id: 42, total: 10 }, { key: "order-42" });
await notify(db, "orders", { id: 42, paid: true }, { key: "order-42" });

const out = relay(db, {
  id: "shop-out",
  channels: "orders",
  to: jetStream({ servers, stream: "HARK_EXAMPLE", subject: "shop.{channel}.{key}" }),
  onPublished: ({ payload }, { place }) => console.log(place, payload),
});
console.log(await out.drain(), "relayed");

await streams.delete("HARK_EXAMPLE");
await nats.close();
