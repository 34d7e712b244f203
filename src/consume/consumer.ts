/**
 * A durable, named subscription, and the process that serves it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { bad, knownOptions } from "../check.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import type { Notification } from "./notification.ts";
import { checkOptions, completeOptions, fieldsOf, type GivenHandlers } from "./checked.ts";
import type { HandlerContext } from "./handler.ts";
import type { ConsumerOptions, RunOptions } from "./options.ts";
import { supervise } from "./supervise.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * A durable, named subscription to one or more channels. Its position lives in the database, so that
 * it goes on where it was after any absence. Give options, or subclass it with `id`, `channels`, `handle` and any
 * other option as a field; options win over fields.
 *
 * Each committed notification is handled at least once: once in the ordinary course, again where a
 * process ends between handling and storing its progress; with `transactional`, what the handler writes on
 * `context.tx` happens exactly once. Several processes may run the same consumer: they share its `partitions`,
 * and where there are fewer of those, the others stand by.
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
  /** The name its position is kept under. */
  readonly id: string | undefined;
  /** The channels it reads. */
  readonly channels: ConsumerOptions["channels"];
  readonly #db: Queryable;
  readonly #options: ConsumerOptions<Payload>;
  #running: { readonly stop: AbortController; readonly done: Promise<unknown> } | undefined;

  /**
   * Checks the options; connects to nothing yet.
   *
   * @param db A {@linkcode Database}, or any {@linkcode Queryable}: then it polls, on that connection.
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
   * Handles one notification. Override it in a subclass, or give `handle` as an option.
   *
   * @throws Anything: the notification is then tried again.
   */
  handle(_notification: Notification<Payload>, _context: HandlerContext): unknown {
    throw new HarkError("BAD_OPTION", `consumer "${this.id}" has no handler`, {
      remedy: "Give handle(notification) as an option, or as a method of a subclass.",
    });
  }

  /**
   * Handles several notifications at once. Override it in a subclass instead of `handle`, or give
   * `handleBatch` as an option.
   *
   * @throws Anything: each of them is then tried again. `context.fail` says it of one.
   */
  handleBatch(
    _notifications: readonly Notification<Payload>[],
    _context: HandlerContext,
  ): unknown {
    return this.handle(_notifications[0]!, _context);
  }

  /**
   * Registers the consumer where it is new, then handles notifications until stopped: first those it
   * missed, then each as it is committed. A lost connection is made again for as long as it takes.
   *
   * @throws {HarkError} at once where the first connection fails, the schema is missing or of another
   * version, a right is missing, or an option is wrong; later only for what will not pass by itself.
   */
  async run(options: RunOptions = {}): Promise<void> {
    await this.#start(options, false);
  }

  /**
   * Handles all that was committed when it was called, then returns how many notifications it has handled:
   * those that became dead letters do not count. What fails is tried again while that is due within
   * `pollInterval`; the rest waits for the next run, and with `onFailure: "block"` what is behind it does too. For
   * partitions that another live worker serves it waits until that one has nothing unread. Needs no LISTEN, so it
   * suits a scheduled or an edge function.
   *
   * @throws {HarkError} As {@linkcode Consumer.run}, and where the connection is lost.
   */
  async drain(options: RunOptions = {}): Promise<number> {
    return await this.#start(options, true);
  }

  /** Has the handler in hand finish, stores the progress, gives the consumer back, and returns. */
  async stop(): Promise<void> {
    const running = this.#running;
    running?.stop.abort();
    await running?.done.catch(() => {}); // run() and drain() report their own errors
  }

  /** Options win over methods of a subclass, also over the other kind of method. */
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
        logger.warn("{consumer}: a handler did not finish in {timeout} ms; left unacknowledged", {
          consumer,
          timeout: worker.stopTimeout,
        });
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
