/**
 * Notifications as events by [CloudEvents 1.0](https://cloudevents.io), and back: in the binary and in
 * the structured mode.
 *
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { installUri, toBinary, toCloudEvent } from "@hark/postgres/cloudevents";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const source = await installUri(db);
 * await new Consumer(db, {
 *   id: "events",
 *   channels: "orders",
 *   async handle(notification) {
 *     const { headers, body } = toBinary(toCloudEvent(notification, { source }));
 *     await fetch("https://example.com/events", { method: "POST", headers, body });
 *   },
 * }).run();
 * ```
 *
 * @module
 */

export {
  checkEvent,
  type CloudEvent,
  type CloudEventOptions,
  fromCloudEvent,
  type FromCloudEventOptions,
  installUri,
  toCloudEvent,
} from "./event.ts";
export {
  type CloudEventMessage,
  fromMessage,
  structuredType,
  toBinary,
  toStructured,
} from "./modes.ts";
