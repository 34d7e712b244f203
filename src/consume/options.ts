/**
 * The options of a consumer.
 *
 * @module
 */

import type { Channel } from "../channels/kind.ts";
import type { Duration } from "../duration.ts";
import type { Around, AroundBatch, BatchHandler, Handled, Handler } from "./handler.ts";
import type { LimitOptions } from "./limit_options.ts";
import type { RetryDecision, RetryOptions } from "./retry_options.ts";
import type { Notification } from "./notification.ts";
import type { LogPlace, StartFrom } from "./start.ts";

/** A channel with its own start, for when the channel is added to an existing consumer. */
export interface ChannelStart<Name extends string = string> {
  /** The name of the channel, 1 to 200 characters. */
  readonly name: Name;
  /**
   * Where to begin reading the channel when it is new to the consumer. Notifications published on
   * it since that start are handled even if the consumer's position is already past them. They are
   * handled alongside new notifications. `"now"` means the consumer's position.
   */
  readonly from: LogPlace;
}

/**
 * Which notifications of its channels a consumer wants. The database evaluates the filter. A
 * notification must match every field that is given. Fields hold values, never SQL.
 */
export interface ConsumerFilter {
  /** Match notifications with this key, or with one of these keys. */
  readonly key?: string | number | bigint | readonly (string | number | bigint)[];
  /**
   * Match notifications whose payload contains this value, as `jsonb @>` defines it: an object's
   * fields, an array's elements.
   */
  readonly payload?: unknown;
  /** Match notifications whose headers contain these fields. */
  readonly headers?: Readonly<Record<string, unknown>>;
}

/** A channel that a reader asks for: its name, or a typed channel. */
// deno-lint-ignore no-explicit-any -- of whatever types
export type ChannelGiven<Name extends string = string> = Name | Channel<any, any, Name, any>;

/** What a table of handlers, made by `on()`, says of itself. A function says nothing. */
export interface HandlesChannels<Name extends string> {
  /** Whether the table has a handler for a channel. */
  readonly handles?: (channel: Name) => boolean;
}

/**
 * Options of a {@linkcode Consumer}. Each duration is a {@linkcode Duration}, such as `"10s"`.
 * `Name`: the names of its channels. The compiler refuses a table of handlers that lacks one of them.
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export interface ConsumerOptions<Payload = any, Name extends string = any> {
  /** The name under which the database keeps the consumer's position, 1 to 200 characters. */
  readonly id?: string;
  /**
   * The channels to read: one or several, names or typed channels. A typed channel's payloads are
   * what its schema made of them. With `handle: on(…)` the channels follow from the handlers. A channel that is added to an existing consumer is read
   * from the consumer's position, unless `from` is given for that channel. Raise `version` with
   * each change of the channels, the filter or `transactional`.
   */
  readonly channels?:
    | ChannelGiven<Name>
    | readonly (ChannelGiven<Name> | ChannelStart<Name>)[];
  /** Which notifications of its channels the consumer wants. By default it wants all. */
  readonly filter?: ConsumerFilter;
  /**
   * The function that handles one notification. Hark calls it in id order. Two things change that
   * order: a `concurrency` above 1, and retries of failed notifications. Give `on(…)` for one handler
   * or more for each channel.
   */
  readonly handle?: Handler<Payload> & HandlesChannels<Name>;
  /** The function that handles several notifications in one call. Give it instead of `handle`. */
  readonly handleBatch?: BatchHandler<Payload>;
  /**
   * A function around each call of `handle`, or a list of them, the outermost first. Each receives the
   * notification, the context and `next`, and calls the handler by `await next()`, once. What it
   * returns is the handler's result, and an error that it throws is the handler's error. If it does
   * not call `next`, the notification counts as handled. The `timeout` and the transaction include
   * it.
   */
  readonly around?: Around<Payload> | readonly Around<Payload>[];
  /** A function around each call of `handleBatch`, or a list of them, as `around` has them. */
  readonly aroundBatch?: AroundBatch<Payload> | readonly AroundBatch<Payload>[];
  /**
   * The most notifications in a batch, 1 to 10000. A batch takes the notifications that are ready,
   * and never waits for more.
   *
   * @default {100}
   */
  readonly batchSize?: number;
  /**
   * Where to begin when the consumer is registered for the first time. Later runs continue from the
   * stored position.
   *
   * @default {"beginning"}
   */
  readonly from?: StartFrom;
  /**
   * The number of partitions that the consumer's notifications are divided into, by key. 1 to 1024.
   * At most this many workers can share the consumer. The option is used only at registration. To
   * change the number later, run `hark consumers partitions`.
   *
   * @default {1}
   */
  readonly partitions?: number;
  /**
   * The version of the consumer's definition: its channels, filter and `transactional`. 0 to
   * 2147483647. If the definition changes, workers with a lower version stand by, even if they
   * start later. So an old worker that restarts during a rolling deployment does not undo the
   * change. At an equal version, another definition is refused (`CONFLICT`) while a live worker
   * serves the consumer.
   *
   * @default {0}
   */
  readonly version?: number;
  /**
   * How many handlers may run at a time in this worker, 1 to 10000. At most one handler runs at a
   * time for a key.
   *
   * @default {1}
   */
  readonly concurrency?: number;
  /**
   * How keys share this worker: in turn, and within rates. Only for `handle`. Without it, the order is
   * that of ids. An empty object has the keys take turns without limits. Handlers then begin once the worker has read to the end, or as
   * far as `readAhead`: keys beyond that take no turns yet.
   *
   * @default {none}
   */
  readonly limits?: LimitOptions;
  /**
   * Give each handler a transaction, `context.tx`. The handler's writes there commit together with
   * the fact that the notification is handled. So the handler's effects in this database happen
   * exactly once.
   *
   * @default {false}
   */
  readonly transactional?: boolean;
  /**
   * How long a handler may run, 1 ms to 2000000000 ms. After that its signal aborts and the attempt
   * counts as failed. The slot and the key stay blocked until the handler returns, for at most
   * another `timeout`. So handlers should observe `context.signal`.
   *
   * @default {none}
   */
  readonly timeout?: Duration;
  /** How to retry a failed notification: options, or a function that decides. */
  readonly retry?: RetryOptions | RetryDecision<Payload>;
  /**
   * How many failed attempts turn a notification into a dead letter, 1 to 1000000000 or `Infinity`.
   * Crashes of workers do not count here. A dead letter is kept with its error, and can be listed,
   * retried or discarded.
   *
   * @default {20; no limit with `onFailure: "block"`}
   */
  readonly maxAttempts?: number;
  /**
   * How many worker crashes in a row turn the notification that was being handled into a dead
   * letter. Both of the last two crashes must have happened while handling that notification. After
   * two crashes in a row, the notifications that may have caused them are handled one at a time. 4
   * to 1000.
   *
   * @default {4}
   */
  readonly maxCrashes?: number;
  /**
   * What must wait until a failing notification has succeeded or has become a dead letter. With
   * `"wait"`, later notifications of its key wait. With `"block"`, all later notifications of its
   * partition wait. `"block"` also handles one notification at a time in each partition.
   *
   * @default {"wait"}
   */
  readonly onFailure?: "wait" | "block";
  /**
   * How many notifications of a partition may wait, 1 to 1000000. Failed notifications wait, and so
   * do later ones of their keys. At this number the worker logs an error and reads no more of the
   * partition until half of them are gone.
   *
   * @default {10000}
   */
  readonly maxWaiting?: number;
  /**
   * Called after a notification was handled, with what the handler returned and how long it took. An
   * error that it throws is logged.
   */
  onHandled?(notification: Notification<Payload>, handled: Handled): unknown;
  /** Called after each failed attempt. An error that it throws is logged. */
  onError?(error: unknown, notification: Notification<Payload>): unknown;
  /**
   * Called when a notification becomes a dead letter, after `onError`. An error that it throws is
   * logged.
   */
  onDeadLetter?(error: unknown, notification: Notification<Payload>): unknown;
  /**
   * How often to read the log without being woken, 1 ms to 1 day. LISTEN wakes a consumer at once,
   * so this interval is a safety net. Without LISTEN it is the delay of delivery.
   *
   * @default {3000}
   */
  readonly pollInterval?: Duration;
  /**
   * What to do after `idleAfter` without work. With `"poll"`, the worker goes on looking. With
   * `"sleep"`, it gives its partitions back, closes its connections and asks PostgreSQL nothing, so
   * that a server that suspends may do so. It wakes by NOTIFY, by {@linkcode Consumer.wake}, when
   * something is due, and after a day at the latest. With LISTEN one connection stays open.
   *
   * @default {"poll"}
   */
  readonly idle?: "poll" | "sleep";
  /**
   * How long a worker must have had nothing to do before it sleeps, 100 ms to 1 day. Only for
   * `idle: "sleep"`. What is due sooner than this keeps the worker awake.
   *
   * @default {60000}
   */
  readonly idleAfter?: Duration;
  /**
   * The most notifications in one page (one read), 1 to 100000.
   *
   * @default {500}
   */
  readonly pageSize?: number;
  /**
   * The most bytes in one page, at least 1. A page may exceed this by one notification.
   *
   * @default {8388608}
   */
  readonly pageBytes?: number;
  /**
   * The most notifications that are read but not yet passed by the position, 1 to 1000000. After a
   * crash, at most this many are repeated.
   *
   * @default {4000, or `pageSize` if that is larger; 20000 with `limits`}
   */
  readonly readAhead?: number;
  /**
   * The most bytes of notifications that are read but not yet handled, at least 1. Memory may exceed
   * this by one page.
   *
   * @default {16777216}
   */
  readonly readAheadBytes?: number;
  /**
   * Store progress after this many notifications, at least 1. No further handler starts until that
   * is done.
   *
   * @default {4000}
   */
  readonly acknowledgeCount?: number;
  /**
   * Store progress at most this long after the last time, 0 to 1 day. With 0, progress is stored
   * after each notification.
   *
   * @default {200}
   */
  readonly acknowledgeInterval?: Duration;
  /**
   * How long a silent worker keeps its partitions before another worker may take over, 100 ms to
   * 1 day. A worker whose LISTEN connection has ended is replaced sooner.
   *
   * @default {15000}
   */
  readonly lease?: Duration;
  /**
   * How long `stop` waits for running handlers before it aborts their signals, 0 to 1 day.
   *
   * @default {30000}
   */
  readonly stopTimeout?: Duration;
}
