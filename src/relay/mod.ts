/**
 * Beyond one database: {@linkcode relay} publishes notifications to a distributed engine, such as NATS
 * JetStream, the keys in order, each once.
 *
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { jetStream, relay } from "@hark/postgres/relay";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await relay(db, {
 *   id: "shop-out",
 *   channels: ["orders", "refunds"],
 *   partitions: 8,
 *   to: jetStream({ stream: "SHOP", subject: "shop.{channel}.{key}" }),
 * }).run();
 * ```
 *
 * @module
 */

export type { MessageFormat } from "./format.ts";
export { jetStream, type JetStreamOptions } from "./jetstream/jet_stream.ts";
export type { NatsOptions } from "./jetstream/nats_options.ts";
export { postgres, type PostgresOptions } from "./postgres.ts";
export type { RelayedOptions, RelayOptions } from "./options.ts";
export type { RelayPreview } from "./preview.ts";
export { Relay, relay, type RelayCheck } from "./relay.ts";
export {
  Busy,
  type Look,
  Lost,
  type OpenSink,
  type Receipt,
  type RelayMessage,
  type Sink,
  type SinkSetting,
} from "./sink.ts";
export {
  type EndpointStatus,
  redriveEndpoint,
  type Redriven,
  relayEndpoints,
} from "./webhooks/status.ts";
export type { Endpoint, WebhooksOptions } from "./webhooks/options.ts";
export { webhooks } from "./webhooks/webhooks.ts";
export type { SubjectFunction, SubjectRules, SubjectTemplate } from "./subject.ts";
