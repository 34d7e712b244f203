/**
 * What a worker is given: its checked options, and the signals and bells of one run.
 *
 * @module
 */

import type { Bell } from "../database/bell.ts";
import type { Listener } from "../database/listener.ts";
import type { Handling } from "./attempt.ts";
import type { Identity } from "./member.ts";
import type { ConsumerOptions } from "./options.ts";
import type { RetryPolicy } from "./outcomes.ts";
import type { PageLimits } from "./page.ts";
import type { StartValues } from "./start.ts";
import type { Waking } from "./waking.ts";

/** A consumer's options, checked and complete. Durations are milliseconds. */
export interface CheckedOptions extends RetryPolicy {
  readonly identity: Identity;
  readonly partitions: number;
  /** Whether `partitions` was given, rather than the default. */
  readonly partitionsGiven: boolean;
  readonly version: number;
  /** Where to begin when the consumer is new: kind, id, time. */
  readonly start: StartValues;
  /** Starts of single channels: JSON text, or null. */
  readonly channelStarts: string | null;
  readonly limits: PageLimits;
  readonly readAhead: number;
  readonly readAheadBytes: number;
  readonly concurrency: number;
  readonly batchSize: number;
  readonly pollInterval: number;
  readonly acknowledgeCount: number;
  readonly acknowledgeInterval: number;
  readonly maxCrashes: number;
  readonly maxWaiting: number;
  /** Whether a failure stops its partition. */
  readonly block: boolean;
  readonly stopTimeout: number;
  readonly handling: Handling;
  readonly hooks: {
    readonly onHandled: ConsumerOptions["onHandled"] | undefined;
    readonly onError: ConsumerOptions["onError"] | undefined;
    readonly onDeadLetter: ConsumerOptions["onDeadLetter"] | undefined;
  };
}

/** One run of a consumer, over any number of sessions. */
export interface Run {
  /** Aborts when no further handler may start. */
  readonly stopping: AbortSignal;
  /** Aborts when running handlers must give up too. */
  readonly abandon: AbortSignal;
  /** To be called when notifications that are published from now on are no replays. */
  readonly ready?: () => void;
  /** Rung when the worker may have something to do. The other bells ring this one too. */
  readonly wake: Bell;
  /** Rung when a notification was published on one of the channels. */
  readonly bell: Bell;
  /** Rung when something was changed for the consumer. */
  readonly control: Bell;
  readonly listener: Listener | undefined;
  /** Decides when to sleep until notified. Present only with LISTEN. */
  readonly waking?: Waking | undefined;
  /** Whether to return once all notifications committed when the run started are handled. */
  readonly drain: boolean;
}
