/**
 * The way back into PostgreSQL: {@linkcode inbox} publishes the messages of a stream of NATS JetStream
 * as notifications, in order, each once.
 *
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { inbox } from "@hark/postgres/inbox";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await inbox(db, { id: "shop-in", stream: "SHOP" }).run();
 * ```
 *
 * @module
 */

export {
  type DeadMessage,
  deadMessages,
  discardMessage,
  redrive,
  type RedriveResult,
} from "./dead.ts";
export { Inbox, inbox } from "./inbox.ts";
export type { InboxMessage, InboxOptions, Mapped } from "./options.ts";
export type { Taken } from "./taken.ts";
export type { NatsOptions } from "../relay/jetstream/nats_options.ts";
