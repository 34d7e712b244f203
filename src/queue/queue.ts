/**
 * A queue of the shape of Deno KV's.
 *
 * @module
 */

import { bad, channelName, knownOptions, wholeNumber } from "../check.ts";
import { Consumer } from "../consume/consumer.ts";
import { connect, type Database } from "../database/database.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import { deadLetters, type DeadNotification } from "../operate/dead.ts";
import { discard } from "../operate/retry.ts";
import { notify } from "../publish/notify.ts";
import {
  type EnqueueOptions,
  hasKey,
  keyText,
  nextAttempt,
  notifyOptions,
  type QueueKey,
} from "./message.ts";

/** How many dead letters are read at once. */
const page = 1000;

/** Options of {@linkcode openQueue}. */
export interface QueueOptions {
  /** The queue's name: its channel and its consumer, 1 to 200 characters. @default {"deno-queue"} */
  readonly name?: string;
  /** How many values are handled at a time in this process, 1 to 10000. @default {100} */
  readonly concurrency?: number;
}

/** What enqueuing returns, as `Deno.KvCommitResult`. */
export interface Enqueued {
  /** True: whatever fails is thrown. */
  readonly ok: true;
  /** The number of the notification, as 20 hexadecimal digits. */
  readonly versionstamp: string;
}

/** What is found under a key, as `Deno.KvEntryMaybe`. */
export interface Undelivered<Value = unknown> {
  /** The key that was asked for. */
  readonly key: QueueKey;
  /** The value that was not delivered; null if there is none under the key. */
  readonly value: Value | null;
  /** As in {@linkcode Enqueued}; null if there is none. */
  readonly versionstamp: string | null;
}

/** What enqueues. */
export interface Enqueues {
  /**
   * Adds a value to the queue. It is delivered to a handler of `listenQueue`, in any process.
   *
   * @param value Anything that JSON can hold. What JSON would change is refused, such as a Map.
   * @throws {HarkError} `BAD_PAYLOAD`, `BAD_OPTION`, and errors of the server.
   */
  enqueue(value: unknown, options?: EnqueueOptions): Promise<Enqueued>;
}

/**
 * A queue on PostgreSQL of the shape that `Deno.Kv` has. It is made by {@linkcode openQueue}.
 *
 * Each value is delivered at least once. A handler that throws is called again, after the waits of the
 * value's `backoffSchedule`. Then the value is a dead letter of the consumer with the queue's name.
 */
export class Queue implements Enqueues, AsyncDisposable {
  readonly #db: Queryable;
  readonly #own: Database | undefined;
  readonly #name: string;
  readonly #concurrency: number;
  readonly #stop = new AbortController();
  readonly #listening = new Set<Promise<void>>();

  /** Use {@linkcode openQueue}. */
  constructor(db: Queryable, own: Database | undefined, options: QueueOptions) {
    knownOptions("openQueue", options, ["name", "concurrency"]);
    this.#db = db;
    this.#own = own;
    this.#name = channelName(options.name ?? "deno-queue");
    this.#concurrency = wholeNumber("concurrency", options.concurrency, 100, 1, 10_000);
  }

  /** See {@linkcode Enqueues.enqueue}. */
  async enqueue(value: unknown, options: EnqueueOptions = {}): Promise<Enqueued> {
    return await this.#enqueue(this.#db, value, options);
  }

  /**
   * The same queue in a transaction of yours: what is enqueued there is delivered if it commits, and
   * never before. It is in the place of `kv.atomic().enqueue(…)`.
   *
   * @param tx The transaction of any driver: see docs/guide/drivers.md.
   */
  within(tx: Queryable): Enqueues {
    requireQueryable(tx);
    return { enqueue: (value, options = {}) => this.#enqueue(tx, value, options) };
  }

  async #enqueue(db: Queryable, value: unknown, options: EnqueueOptions): Promise<Enqueued> {
    const id = await notify(db, this.#name, value, notifyOptions(options));
    return { ok: true, versionstamp: stampOf(id) };
  }

  /**
   * Calls a handler for each value, until the queue is closed. Several processes share the values.
   * Values have no order among each other.
   *
   * @param handler Gets the value. If it throws, it is called again later.
   * @returns A promise that resolves when the queue is closed.
   * @throws {HarkError} As `Consumer.run`.
   */
  // deno-lint-ignore no-explicit-any -- as Deno.Kv declares it
  async listenQueue(handler: (value: any) => unknown): Promise<void> {
    if (typeof handler !== "function") bad("handler", handler, "Give a function.");
    const consumer = new Consumer(this.#db, {
      id: this.#name,
      channels: this.#name,
      concurrency: this.#concurrency,
      // So that several processes can share them. It counts when the queue is listened to first.
      partitions: 16,
      maxAttempts: Infinity,
      retry: (_error, attempt, { headers }) => nextAttempt(attempt, headers),
      handle: ({ payload }) => handler(payload),
    });
    const running = consumer.run({ signal: this.#stop.signal });
    this.#listening.add(running);
    try {
      await running;
    } finally {
      this.#listening.delete(running);
    }
  }

  /**
   * Reads a value that was not delivered, by one of its `keysIfUndelivered`; of several, the newest.
   * It looks through the dead letters of the queue, so it is not for a path that is hot. It needs
   * `hark.grant_operate`.
   */
  async get<Value = unknown>(key: QueueKey): Promise<Undelivered<Value>> {
    const newest = (await this.#undelivered(key)).at(-1);
    return newest === undefined
      ? { key, value: null, versionstamp: null }
      : { key, value: newest.payload as Value, versionstamp: stampOf(newest.id) };
  }

  /**
   * Removes what was not delivered and has this key, under all its keys. It needs
   * `hark.grant_operate`.
   */
  async delete(key: QueueKey): Promise<void> {
    const ids = (await this.#undelivered(key)).map(({ id }) => id);
    if (ids.length > 0) await discard(this.#db, this.#name, { ids });
  }

  async #undelivered(key: QueueKey): Promise<DeadNotification[]> {
    const text = keyText(key);
    const found: DeadNotification[] = [];
    const options = { consumer: this.#name, limit: page };
    for (let after = 0;;) {
      const letters = await deadLetters(this.#db, { ...options, after }).catch((error) => {
        // Before the first listener, nothing can have failed.
        if (error instanceof HarkError && error.code === "NO_CONSUMER") return [];
        throw error;
      });
      found.push(...letters.filter(({ headers }) => hasKey(headers, text)));
      if (letters.length < page) return found;
      after = letters.at(-1)!.id;
    }
  }

  /** Ends all listening: running handlers may end first. Closes the database that it has opened. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#listening);
    await this.#own?.close();
  }

  /** For `await using`: closes the queue. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function stampOf(id: number): string {
  return id.toString(16).padStart(20, "0");
}

/**
 * Opens a queue of the shape of Deno KV's, on PostgreSQL. The schema `hark` must be installed. It is
 * for programs that used `Deno.openKv()` for its queue alone:
 *
 * - A value is JSON: at most 64 MB, where Deno KV has 64 KiB of structured clone.
 * - `get` and `delete` see only what was not delivered. There is no other storage.
 * - `within(tx)` enqueues in a transaction of your data, in the place of `atomic()`.
 *
 * @param db The database: its URL, as for `connect`, or a `Database` or any driver. What it opens
 * itself, it closes.
 * @throws {HarkError} As `connect`; `BAD_OPTION` and `BAD_CHANNEL` for a wrong option.
 * @example
 * ```ts
 * import { openQueue } from "@hark/postgres/deno-queue";
 *
 * const kv = await openQueue(Deno.env.get("DATABASE_URL"));
 * kv.listenQueue(async (message: { forUser: string }) => {
 *   await fetch(`https://mail.example/${message.forUser}`, { method: "POST" });
 * });
 * await kv.enqueue({ forUser: "alovelace" }, {
 *   delay: 1000,
 *   backoffSchedule: [1000, 5000, 10_000],
 *   keysIfUndelivered: [["failed", "alovelace"]],
 * });
 * ```
 */
export async function openQueue(
  db: string | undefined | Queryable,
  options: QueueOptions = {},
): Promise<Queue> {
  if (db !== undefined && typeof db !== "string") {
    requireQueryable(db);
    return new Queue(db, undefined, options);
  }
  const own = await connect(db);
  try {
    return new Queue(own, own, options);
  } catch (error) {
    await own.close();
    throw error;
  }
}
