/**
 * What a worker is given: its checked options, and the signals and bells of one run.
 *
 * @module
 */

import type { Bell } from "../../database/bell.ts";
import type { Listener } from "../../database/listener.ts";
import type { Queryable } from "../../database/queryable.ts";
import type { ObservedRun } from "../../observe/run.ts";
import type { ConsumerOptions } from "../options.ts";
import type { ConsumerValues } from "../option_table.ts";
import type { RetryPolicy } from "../retry.ts";
import type { StartValues } from "../start.ts";
import type { BatchHandler, Handler } from "../handler.ts";
import type { Identity } from "./identity.ts";
import type { CheckedLimits } from "./turns.ts";

/** How large a page may be. */
export interface PageLimits {
  /** The most rows returned. */
  readonly rows: number;
  /** The most bytes returned, beyond the first row. */
  readonly bytes: number;
  /** The most rows scanned, of any channel. */
  readonly scanned: number;
}

/** The handler to call, and its timeout. */
export interface Handling {
  readonly handle: Handler | undefined;
  readonly handleBatch: BatchHandler | undefined;
  /** Whether the worker reads no further while a handler is slow: see waitedFor. */
  readonly isWaitedFor: boolean;
  /** Milliseconds. Undefined for no timeout. */
  readonly timeout: number | undefined;
}

/** A consumer's options, checked and complete. Durations are milliseconds. */
export interface CheckedOptions extends RetryPolicy, ConsumerValues {
  readonly identity: Identity;
  readonly maxAttempts: number;
  /** Whether `partitions` was given, rather than the default. */
  readonly partitionsGiven: boolean;
  /** Where to begin when the consumer is new: kind, id, time. */
  readonly start: StartValues;
  /** Starts of single channels: JSON text, or null. */
  readonly channelStarts: string | null;
  readonly limits: PageLimits;
  /** How keys share the worker. Undefined if they do not take turns. */
  readonly sharing: CheckedLimits | undefined;
  /** Whether a failure stops its partition. */
  readonly block: boolean;
  readonly handling: Handling;
  readonly hooks: {
    readonly onHandled: ConsumerOptions["onHandled"] | undefined;
    readonly onError: ConsumerOptions["onError"] | undefined;
    readonly onDeadLetter: ConsumerOptions["onDeadLetter"] | undefined;
  };
}

/** The situation of a reader. Times are by `performance.now()`. */
export interface Standing {
  /** Whether the reader reads at all. False if it is paused or has nothing to read. */
  readonly open: boolean;
  /** Whether the reader has no room for more. */
  readonly full: boolean;
  /** Whether the reader has read to an end of the log. */
  readonly drained: boolean;
  /** When the reader last read something. */
  readonly busyAt: number;
  /**
   * How many notifications the reader has read so far. Undefined if it is also woken for others.
   */
  readonly found: number | undefined;
  /** How long a commit took recently, with the round trip, in milliseconds. */
  readonly commitTime: number | undefined;
  /** The least time that a look took recently, in milliseconds. */
  readonly lookTime: number;
  /** When the log was last looked at for the reader, if others have that done for it too. */
  readonly lookedAt?: number | undefined;
}

/** Decides when a reader sleeps until it is notified. */
export interface Wakes {
  /** Looks, falls asleep or wakes, as the situation of the reader asks. */
  tend(session: Queryable, standing: Standing): Promise<void>;
  /** When {@linkcode Wakes.tend} has something to do, by `performance.now()`. */
  due(standing: Standing): number;
  /** Whether publishers wake the reader, and it has looked after those that may not have. */
  readonly isArmed: boolean;
  /** Has publishers wake the reader for long. Returns false if it has to look first. */
  lieDown(session: Queryable): Promise<boolean>;
  /** The reader looks by itself again. */
  rise(): void;
  /** What hears for the reader may be silent from now on. Returns a function that ends that. */
  rest(): () => void;
  /** The reader ends: publishers need not notify it any more. */
  leave(session: Queryable): Promise<void>;
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
  /** The run as probes and telemetry see it. */
  readonly observed: ObservedRun;
  /** Decides when to sleep until notified. Present only with LISTEN. */
  readonly waking?: Wakes | undefined;
  /** Whether to return once all notifications committed when the run started are handled. */
  readonly drain: boolean;
  /** For how many notifications handlers may be called. */
  readonly limit: number;
  /** Whether a drain waits for what other workers serve, and for retries that are due soon. */
  readonly waits: boolean;
}

/** How far a drain is when its time is over. */
export interface Progress {
  tally(): Tally;
  /** How many handled notifications are not known to be stored. */
  unstored(): number;
}

/** Why a drain has ended, except for a stop from outside. */
export type DrainEnd = "done" | "limit" | "paused" | "busy";

/** What a run has done. */
export interface Tally {
  readonly handled: number;
  /** How many attempts have failed and will be repeated. */
  readonly failed: number;
  /** How many notifications became dead letters. */
  readonly dead: number;
  /** How many notifications it had read, or found waiting, that are not handled. */
  readonly left: number;
  /** Whether another drain may find something to handle at once. */
  readonly more: boolean;
  /** Undefined if it was stopped. */
  readonly end: DrainEnd | undefined;
}
