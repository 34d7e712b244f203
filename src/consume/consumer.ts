/**
 * A durable, named subscription, and the worker in this process that serves it.
 *
 * @module
 */

import type { PayloadOf } from "../channels/kind.ts";
import { bad } from "../check.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import type { Notification } from "./notification.ts";
import { checkOptions, completeOptions, withChannels } from "./check_options.ts";
import { optionsOf, withFields } from "./class_fields.ts";
import type { HandlerContext } from "./handler.ts";
import type { ConsumerOptions } from "./options.ts";
import type { DrainOptions, RunOptions } from "./run_options.ts";
import { type Ended, Runner } from "./runner.ts";

/** What runs each consumer. Not private fields: those would not be found through a Proxy. */
const runners = new WeakMap<object, Runner>();

/** Options of a consumer that count more than its code. */
const overrides = new WeakMap<object, ConsumerOptions>();

// Registered symbols: a module of consumers may have imported another copy of this package than the
// program that runs it.
const checkKey = Symbol.for("@hark/postgres:check:1");
const overrideKey = Symbol.for("@hark/postgres:override:1");
const drainKey = Symbol.for("@hark/postgres:drain:1");

/**
 * Checks all options of a consumer, as a run would.
 *
 * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
 */
export function checkConsumer(consumer: object): void {
  (consumer as { [checkKey]?: () => void })[checkKey]?.();
}

/** Sets options of a consumer that count more than what its code gives. */
export function overrideOptions(consumer: object, options: ConsumerOptions): void {
  (consumer as { [overrideKey]?: (options: ConsumerOptions) => void })[overrideKey]?.(options);
}

/** Drains a consumer, and tells all that is known of it. */
export async function drainConsumer(consumer: object, options: DrainOptions): Promise<Ended> {
  const drain = (consumer as { [drainKey]?: (options: DrainOptions) => Promise<Ended> })[drainKey];
  if (drain === undefined) bad("consumer", consumer, "Give a Consumer.");
  return await drain.call(consumer, options);
}

function runnerOf(consumer: object): Runner {
  return runners.get(consumer)!;
}

/**
 * A durable, named subscription to one or more channels. Its position is stored in the database. So
 * after any absence the consumer continues where it was. Give options, or write a subclass with
 * `id`, `channels`, `handle` and any other option as a field or a method. Options win over fields.
 * What a consumer was given can be read from its properties; a property is undefined if its default
 * applies.
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
export class Consumer<Payload = any, Name extends string = any, Given = unknown> {
  /**
   * Checks the options. Does not connect yet.
   *
   * @param db A {@linkcode Database}, or any {@linkcode Queryable}. With the latter the consumer
   *   polls on that connection.
   * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
   */
  constructor(
    db: Queryable,
    options: ConsumerOptions<PayloadOf<Payload, Given>, Name> & { readonly channels?: Given } = {},
  ) {
    requireQueryable(db);
    options = withChannels(options);
    checkOptions(options, new.target !== Consumer);
    const self = withFields(this, options, new.target, Consumer);
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined) continue;
      Object.defineProperty(self, name, {
        value,
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    runners.set(
      self,
      new Runner(db, () => {
        const all = withChannels({
          ...optionsOf(self, options, Consumer),
          ...overrides.get(self),
        });
        checkOptions(all);
        const { id, channels, handle, handleBatch } = all;
        return completeOptions(all, id, channels, { handle, handleBatch });
      }),
    );
    return self;
  }

  static {
    // hark listen checks consumers before it runs any of them, and is told options of its own.
    Object.defineProperty(this.prototype, checkKey, {
      value(this: Consumer): void {
        runnerOf(this).check();
      },
    });
    Object.defineProperty(this.prototype, overrideKey, {
      value(this: Consumer, options: ConsumerOptions): void {
        overrides.set(this, { ...overrides.get(this), ...options });
      },
    });
    Object.defineProperty(this.prototype, drainKey, {
      value(this: Consumer, options: DrainOptions): Promise<Ended> {
        return runnerOf(this).run(options, true);
      },
    });
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
    await runnerOf(this).run(options, false);
  }

  /**
   * Resolves when a run is ready, in this process: it has registered the consumer, listens, and has
   * claimed its share of the partitions. The share is nothing while other workers serve all of
   * them. A worker with an outdated definition is not ready. What is published from then on has
   * `isReplay` false. What was published before has it true.
   *
   * The promise belongs to the current run, or to the next one if none has begun. It rejects with
   * the error of `run` if that fails earlier, and with `CONFLICT` if the consumer is stopped
   * earlier.
   *
   * @example
   * ```ts
   * import { connect, Consumer, notify } from "@hark/postgres";
   *
   * await using db = await connect(Deno.env.get("DATABASE_URL"));
   * const consumer = new Consumer(db, {
   *   id: "billing",
   *   channels: "orders",
   *   handle: ({ isReplay }) => console.log(isReplay),
   * });
   * const running = consumer.run();
   * await consumer.ready;
   * await notify(db, "orders", { id: 42 });
   * await running;
   * ```
   */
  get ready(): Promise<void> {
    return runnerOf(this).ready;
  }

  /**
   * Handles all notifications that were committed when the drain was called, and the delayed and
   * scheduled ones that were due. Then returns how many were handled, not counting those that became
   * dead letters.
   *
   * A failed notification is retried if its next attempt is due within `pollInterval`. Otherwise it
   * waits for the next run. With `onFailure: "block"`, the notifications after it in its partition
   * wait too.
   *
   * If another live worker serves some partitions, the call waits until that worker has nothing
   * unread, unless `wait` is false. A drain needs no LISTEN, so it suits a scheduled or an edge
   * function. `drain` of `@hark/postgres/edge` also tells why it ended and what is left.
   *
   * @throws {HarkError} As {@linkcode Consumer.run}, and if the connection is lost.
   */
  async drain(options: DrainOptions = {}): Promise<number> {
    return (await runnerOf(this).run(options, true)).handled;
  }

  /**
   * Has a run of this consumer in this process look at the log now, and wakes it if it sleeps
   * (`idle: "sleep"`). A look that was asked for is never lost, also if it is asked for at the moment at
   * which the worker falls asleep.
   *
   * @returns Whether there is a run that is not stopping. A drain is none.
   * @example
   * ```ts
   * import { connect, Consumer } from "@hark/postgres";
   *
   * await using db = await connect(Deno.env.get("DATABASE_URL"));
   * const consumer = new Consumer(db, { id: "billing", channels: "orders", idle: "sleep", handle() {} });
   * const running = consumer.run();
   * consumer.wake();
   * await running;
   * ```
   */
  wake(): boolean {
    return runnerOf(this).wake();
  }

  /**
   * Lets running handlers finish, stores the progress, releases the partitions, and returns. A handler
   * may call it, but must not await it: it would wait for itself.
   */
  async stop(): Promise<void> {
    await runnerOf(this).stop();
  }
}

/** The options that a consumer was given, or that its class has as fields. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export interface Consumer<Payload = any, Name extends string = any, Given = unknown>
  extends ConsumerOptions<Payload> {}
