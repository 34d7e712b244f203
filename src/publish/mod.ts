/**
 * Publishing alone, for programs that bring their own driver, such as edge functions. This module
 * and all that it imports need no driver, no package of npm and nothing of Node.js, and no right: the
 * statements run on what you give. It is about 11 kB, minified and compressed.
 *
 * Everything here is the same as in `@hark/postgres`, and both can be imported side by side. Only the
 * statements are here alone: {@linkcode notifyStatement}, {@linkcode notifyManyStatement} and
 * {@linkcode setContextStatement}, for drivers that take several statements at once.
 *
 * @example Neon's HTTP driver as it is
 * ```ts
 * import { notify, type Queryable } from "@hark/postgres/publish";
 *
 * // import { neon } from "@neondatabase/serverless";
 * declare function neon(url: string, options: { fullResults: true }): Queryable;
 *
 * const sql = neon(Deno.env.get("DATABASE_URL")!, { fullResults: true });
 * const id = await notify(sql, "orders", { id: 42 }, { key: "order-42" });
 * ```
 *
 * @module
 */

export { setContext, setContextStatement } from "../changes/context.ts";
export { channel } from "../channels/channel.ts";
export type {
  AnyChannel,
  Channel,
  ChannelInput,
  ChannelKey,
  ChannelName,
  ChannelOutput,
} from "../channels/kind.ts";
export type { Queryable, QueryResult } from "../database/queryable.ts";
export type { Duration } from "../duration.ts";
export { HarkError, type HarkErrorCode, type HarkErrorOptions } from "../errors.ts";
export type {
  SchemaInput,
  SchemaOutput,
  StandardIssue,
  StandardResult,
  StandardSchema,
} from "../standard_schema.ts";
export { cancelDelayed } from "./cancel.ts";
export { harkError } from "./error.ts";
export type { DedupeOptions, LaterOptions } from "./later.ts";
export {
  type CompleteNotification,
  type NewNotification,
  notify,
  notifyEach,
  notifyMany,
  notifyOnce,
  type NotifyOnceOptions,
  type NotifyOptions,
  type Published,
} from "./notify.ts";
export { notifyManyStatement, notifyStatement, type Statement } from "./statement.ts";
