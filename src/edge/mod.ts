/**
 * Consuming in functions that are billed by time and may end at any moment: drains with a limit and a
 * deadline, a handler for schedulers that call a URL, and waking consumers that sleep.
 *
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { drain } from "@hark/postgres/edge";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"), { poolSize: 1 });
 * const consumer = new Consumer(db, { id: "billing", channels: "orders", handle() {} });
 * const { handled, left, more, reason } = await drain(consumer, { limit: 100, deadline: "10s" });
 * console.log(handled, left, more, reason);
 * ```
 *
 * @module
 */

export { Consumer } from "../consume/consumer.ts";
export type { Duration } from "../duration.ts";
export type { DrainOptions } from "../consume/run_options.ts";
export { drain, type DrainResult } from "./drain.ts";
export {
  type DrainAnswer,
  type DrainedConsumer,
  drainHandler,
  type DrainHandlerOptions,
} from "./handler.ts";
export { type WakeOptions, wakeUp } from "./wake.ts";
export {
  type WakeAnswer,
  wakeHandler,
  type WakeHandlerOptions,
  type WokenConsumer,
} from "./wake_handler.ts";
