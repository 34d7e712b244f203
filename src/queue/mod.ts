/**
 * `enqueue` and `listenQueue` of the shape of Deno KV's queue, on PostgreSQL, for programs that have
 * lost theirs.
 *
 * @example
 * ```ts
 * import { openQueue } from "@hark/postgres/deno-queue";
 *
 * const kv = await openQueue(Deno.env.get("DATABASE_URL"));
 * await kv.enqueue({ forUser: "alovelace", body: "You've got mail!" });
 * await kv.listenQueue((message) => console.log(message.body));
 * ```
 *
 * @module
 */

export type { Queryable, QueryResult } from "../database/queryable.ts";
export type { EnqueueOptions, QueueKey, QueueKeyPart } from "./message.ts";
export {
  type Enqueued,
  type Enqueues,
  openQueue,
  Queue,
  type QueueOptions,
  type Undelivered,
} from "./queue.ts";
