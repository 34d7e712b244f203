/**
 * A durable, named subscription, and the worker in this process that serves it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { bad, knownOptions } from "../check.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import type { Notification } from "./notification.ts";
import { checkOptions, completeOptions, fieldsOf, type GivenHandlers } from "./check_options.ts";
import type { HandlerContext } from "./handler.ts";
import type { ConsumerOptions, RunOptions } from "./options.ts";
import { supervise } from "./worker/supervisor.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * A durable, named subscription to one or more channels. Its position is stored in the database. So
 * after any absence the consumer continues where it was. Give options, or write a subclass with
 * `id`, `channels`, `handle` and any other option as a field. Options win over fields.
 *
 * Each committed notification is handled at least once, and normally exactly once. A notification
 * is handled again if a process ends after handling it and before storing its progress. With
 * `transactional`, the handler's writes on `context.tx` happen exactly once.
 *
 * Several processes may run the same consumer. Their workers share its `partitions`. Workers beyond
 * the number of partitions stand by.
 *
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const consumer = new Consumer(db, {
 *   id: "billing",
 *   channels: ["orders"],
 *   handle(notification) {
 *     console.log(notification.id, notification.payload);
 *   },
 * });
 * await consumer.run();
 * ```
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export class Consumer<Payload = any> {
  /** The name under which the database keeps the consumer's position. */
  readonly id: string | undefined;
  /** The channels that the consumer reads. */
  readonly channels: ConsumerOptions["channels"];
  readonly #db: Queryable;
  readonly #options: ConsumerOptions<Payload>;
  #running: { readonly stop: AbortController; readonly done: Promise<unknown> } | undefined;

  /**
   * Checks the options. Does not connect yet.
   *
   * @param db A {@linkcode Database}, or any {@linkcode Queryable}. With the latter the consumer
   *   polls on that connection.
   * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
   */
  constructor(db: Queryable, options: ConsumerOptions<Payload> = {}) {
    if (typeof (db as Queryable | undefined)?.query !== "function") {
      bad("db", db, "Give a Database, a pg.Client or Pool, a PGlite, or a wrapped driver.");
    }
    checkOptions(options, new.target !== Consumer);
    this.#db = db;
    this.#options = options;
    this.id = options.id;
    this.channels = options.channels;
  }

  /**
   * Handles one notification. Override this method in a subclass, or give `handle` as an option.
   *
   * @throws Any error: the notification is then retried.
   */
  handle(_notification: Notification<Payload>, _context: HandlerContext): unknown {
    throw new HarkError("BAD_OPTION", `consumer "${this.id}" has no handler`, {
      remedy: "Give handle(notification) as an option, or as a method of a subclass.",
    });
  }

  /**
   * Handles several notifications in one call. Override this method in a subclass instead of
   * `handle`, or give `handleBatch` as an option.
   *
   * @throws Any error: every notification of the batch is then retried. To report that a single
   *   notification failed, call `context.fail`.
   */
  handleBatch(
    _notifications: readonly Notification<Payload>[],
    _context: HandlerContext,
  ): unknown {
    return this.handle(_notifications[0]!, _context);
  }

  /**
   * Registers the consumer if it is new, then handles notifications until stopped. The consumer
   * first handles the notifications it missed, then each new one as it is committed. If the
   * connection is lost, the worker reconnects, however long that takes.
   *
   * @throws {HarkError} Immediately if the first connection fails, the schema is missing or of
   *   another version, a right is missing, or an option is wrong. Later only for errors that do not
   *   pass by themselves.
   */
  async run(options: RunOptions = {}): Promise<void> {
    await this.#start(options, false);
  }

  /**
   * Handles all notifications that were committed when the drain was called. Then returns how many
   * were handled, not counting those that became dead letters.
   *
   * A failed notification is retried if its next attempt is due within `pollInterval`. Otherwise it
   * waits for the next run. With `onFailure: "block"`, the notifications after it in its partition
   * wait too.
   *
   * If another live worker serves some partitions, the call waits until that worker has nothing
   * unread. A drain needs no LISTEN, so it suits a scheduled or an edge function.
   *
   * @throws {HarkError} As {@linkcode Consumer.run}, and if the connection is lost.
   */
  async drain(options: RunOptions = {}): Promise<number> {
    return await this.#start(options, true);
  }

  /** Lets running handlers finish, stores the progress, releases the partitions, and returns. */
  async stop(): Promise<void> {
    const running = this.#running;
    running?.stop.abort();
    await running?.done.catch(() => {}); // run() and drain() report their own errors
  }

  /**
   * Options win over a subclass's methods. So a `handle` option also wins over a `handleBatch`
   * method, and the reverse.
   */
  #handlers({ handle, handleBatch }: ConsumerOptions): GivenHandlers {
    const own = handle === undefined && handleBatch === undefined;
    return {
      handle: own && this.handle !== Consumer.prototype.handle
        ? (notification, context) => this.handle(notification, context)
        : handle,
      handleBatch: own && this.handleBatch !== Consumer.prototype.handleBatch
        ? (notifications, context) => this.handleBatch(notifications, context)
        : handleBatch,
    };
  }

  async #start(options: RunOptions, drain: boolean): Promise<number> {
    knownOptions("run", options, ["signal"]);
    const given = { ...fieldsOf(this), ...this.#options };
    checkOptions(given);
    const worker = completeOptions(
      given,
      given.id ?? this.id,
      given.channels ?? this.channels,
      this.#handlers(given),
    );
    const { consumer } = worker.identity;
    if (this.#running !== undefined) {
      throw new HarkError("CONFLICT", `consumer "${consumer}" is already running`, {
        remedy: "Stop it first, or make another Consumer object.",
      });
    }
    const stop = new AbortController();
    const abandon = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    stop.signal.addEventListener("abort", () => {
      timer = setTimeout(() => {
        logger.warn(
          "{consumer}: a handler still runs {timeout} ms after the stop; its notification will be handled again",
          {
            consumer,
            timeout: worker.stopTimeout,
          },
        );
        abandon.abort(new Error("the consumer is stopping"));
      }, worker.stopTimeout);
    }, { once: true });
    const abort = () => stop.abort();
    if (options.signal?.aborted) abort();
    options.signal?.addEventListener("abort", abort, { once: true });
    const done = supervise(this.#db, worker, {
      drain,
      stopping: stop.signal,
      abandon: abandon.signal,
    });
    this.#running = { stop, done };
    const forget = connectionsOf(this.#db)?.beforeClose(
      () => this.stop(),
      () => stop.signal.aborted ? undefined : `consumer "${consumer}"`,
    );
    try {
      return await done;
    } finally {
      forget?.();
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", abort);
      this.#running = undefined;
    }
  }
}
