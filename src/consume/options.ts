/**
 * The options of a consumer.
 *
 * @module
 */

import type { BatchHandler, Handler } from "./handler.ts";
import type { Notification } from "./notification.ts";
import type { StartFrom } from "./start.ts";

/** How a failed notification is tried again. Durations are milliseconds. */
export interface RetryOptions {
  /** The wait after the first failure; it doubles with each, less up to half at random. @default {500} */
  readonly initial?: number;
  /** The longest wait. @default {600000} */
  readonly maximum?: number;
}

/** A channel that is read from a place of its own when it is added to a consumer. */
export interface ChannelStart {
  /** The channel, 1 to 200 characters. */
  readonly name: string;
  /**
   * Where it begins when it is new to the consumer: what was published on it since then, and is passed
   * already, is handled too, beside what comes. `"now"` is where the consumer stands.
   */
  readonly from: StartFrom;
}

/**
 * Which notifications of its channels a consumer wants, decided in the database: all that is given must
 * match. Values, never SQL.
 */
export interface ConsumerFilter {
  /** The key is this, or one of these. */
  readonly key?: string | readonly string[];
  /** The payload contains this, as `jsonb @>` has it: an object's fields, an array's elements. */
  readonly payload?: unknown;
  /** The headers contain these. */
  readonly headers?: Readonly<Record<string, unknown>>;
}

/** Options of a {@linkcode Consumer}. Durations are milliseconds. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export interface ConsumerOptions<Payload = any> {
  /** The name its position is kept under, 1 to 200 characters. */
  readonly id?: string;
  /**
   * The channels it reads: one or several. One added to a known consumer is read from where the consumer
   * stands, unless it says `from`. Workers with other channels, another filter or another `transactional` than
   * the one started last stand by.
   */
  readonly channels?: string | readonly (string | ChannelStart)[];
  /** Which notifications of its channels it wants. */
  readonly filter?: ConsumerFilter;
  /** Called for each notification: in the order of ids, but for what `concurrency` allows and what has failed. */
  readonly handle?: Handler<Payload>;
  /** Called for several notifications at once, instead of `handle`. */
  readonly handleBatch?: BatchHandler<Payload>;
  /** The most notifications of a batch; what is there is taken, nothing is waited for. @default {100} */
  readonly batchSize?: number;
  /**
   * Where it begins when it is registered for the first time; later runs go on from where the last
   * ended. @default {"beginning"}
   */
  readonly from?: StartFrom;
  /**
   * Into how many partitions its notifications fall, by their keys: at most so many workers can share them.
   * Counts when the consumer is registered; later it is changed by `hark consumers partitions`. 1 to 1024.
   * @default {1}
   */
  readonly partitions?: number;
  /**
   * Of what the consumer is: its channels, filter and `transactional`. Where they change, workers with a lower
   * version stand by, also those started later, so that an old worker that starts again in a rolling deployment
   * does not undo the change. Among equals the one started last wins. @default {0}
   */
  readonly version?: number;
  /** How many handlers may run at a time in this worker, one at a time for a key. @default {1} */
  readonly concurrency?: number;
  /**
   * Gives the handler a transaction, `context.tx`: what it writes there and the fact that the notification is
   * handled commit together, so its effects in this database happen exactly once. @default {false}
   */
  readonly transactional?: boolean;
  /**
   * How long a handler may take: then its signal aborts and the attempt has failed. Its place and its key stay
   * taken until it returns, but for as long again at most, so heed the signal. @default {none}
   */
  readonly timeout?: number;
  /** How a failed notification is tried again. */
  readonly retry?: RetryOptions;
  /**
   * After so many failed attempts a notification becomes a dead letter: kept with its error, to be listed,
   * retried or discarded. With `onFailure: "block"` there is no limit unless one is given. @default {20}
   */
  readonly maxAttempts?: number;
  /**
   * After so many workers in a row that ended without a word, what the last two of them handled becomes a dead
   * letter: from the third on, what may have ended them is handled one by one. At least 4. @default {4}
   */
  readonly maxCrashes?: number;
  /**
   * What a failing notification holds up until it has succeeded or is given up: the later ones of its key
   * (`"park"`), or all later ones of its partition (`"block"`, which also handles one at a time in a
   * partition). @default {"park"}
   */
  readonly onFailure?: "park" | "block";
  /**
   * How many notifications of a partition may wait: failed ones, and those of their keys behind them. Then it
   * reads no further until half are gone, and says so. @default {10000}
   */
  readonly maxWaiting?: number;
  /** Called after a notification was handled. What it throws is logged. */
  readonly onHandled?: (notification: Notification<Payload>) => unknown;
  /** Called after each failed attempt. What it throws is logged. */
  readonly onError?: (error: unknown, notification: Notification<Payload>) => unknown;
  /** Called when a notification becomes a dead letter, after `onError`. What it throws is logged. */
  readonly onDeadLetter?: (error: unknown, notification: Notification<Payload>) => unknown;
  /**
   * How often to look without being woken. LISTEN wakes a consumer at once, so this is the safety net,
   * and the delay where LISTEN cannot be had. @default {3000}
   */
  readonly pollInterval?: number;
  /** The most notifications read at a time. @default {500} */
  readonly pageSize?: number;
  /** The most bytes read at a time, beyond one notification. @default {8388608} */
  readonly pageBytes?: number;
  /** The most notifications that are read and not yet passed; a crash repeats no more. @default {4000, or pageSize} */
  readonly readAhead?: number;
  /** The most bytes of those that are read and not yet handled, beyond a page. @default {16777216} */
  readonly readAheadBytes?: number;
  /** Progress is stored at the latest after so many notifications; none is begun before. @default {4000} */
  readonly acknowledgeCount?: number;
  /** Progress is stored at the latest so long after the last time; 0: after each one. @default {200} */
  readonly acknowledgeInterval?: number;
  /**
   * How long a worker that has gone silent keeps its partitions before another may take over; one whose
   * LISTEN connection ended is replaced sooner. @default {15000}
   */
  readonly lease?: number;
  /** How long `stop` waits for the handlers in hand before their signals abort. @default {30000} */
  readonly stopTimeout?: number;
}

/** Options of {@linkcode Consumer.run} and {@linkcode Consumer.drain}. */
export interface RunOptions {
  /** Stops when it aborts, as {@linkcode Consumer.stop} does. */
  readonly signal?: AbortSignal;
}
