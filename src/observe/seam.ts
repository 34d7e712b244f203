/**
 * Where telemetry listens. Publishing, reading, handlers and leases call what listens here. As long as
 * nothing does, each place costs one comparison. This module knows nothing of OpenTelemetry.
 *
 * A new place to observe, such as a relay, needs no change here: `count` adds to any metric of
 * `src/metrics/table.ts`, and `observed` puts a span around any work.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import type { ObservedRun } from "./run.ts";

/** Facts about a span or a measurement, by the names of their attributes. */
export type About = Readonly<Record<string, string | number | boolean>>;

/** Headers that carry a trace, such as `traceparent`. */
export type Carried = Readonly<Record<string, string>>;

/** A call that publishes. */
export interface Publishing {
  /** What it publishes through. */
  readonly db: Queryable;
  /** The channel. Undefined if a batch is for several. */
  readonly channel: string | undefined;
  /** The key that the caller gives. Undefined for a batch. */
  readonly key: string | number | bigint | null | undefined;
  /** How many notifications the batch has. Undefined for one that is no batch. */
  readonly batch: number | undefined;
}

/** What became of one notification of a publishing call. */
export interface Sent {
  readonly id: number;
  readonly isDelayed: boolean;
  readonly isDuplicate: boolean;
}

/** A notification, as far as telemetry looks at it: never its payload. */
export interface ObservedNotification {
  readonly id: number;
  readonly channel: string;
  readonly key: string | null;
  readonly isReplay: boolean;
  readonly attempt: number;
  readonly createdAt: Date;
  readonly headers: Readonly<Record<string, unknown>>;
}

/** A call of a handler that is about to begin. */
export interface Handling {
  readonly run: ObservedRun;
  /** The partition. Undefined for a batch of more than one. */
  readonly partition: number | undefined;
  readonly notifications: readonly ObservedNotification[];
  /** Whether the handler takes a batch, of however many. */
  readonly isBatch: boolean;
}

/**
 * What became of a notification whose handler was called:
 *
 * - `"handled"`: its handler succeeded.
 * - `"retry"`: it failed, and will be tried again.
 * - `"dead_letter"`: it was given up.
 * - `"newer"`: it waits for a worker of a newer program.
 * - `"behind"`: it comes again, because another notification of its batch failed.
 * - `"interrupted"`: it comes again, because the worker stops or has lost its partition.
 * - `"unsure"`: it is not known whether its transaction committed.
 * - `"discarded"`: it was discarded by hand while its handler ran.
 */
export type Outcome =
  | "handled"
  | "retry"
  | "dead_letter"
  | "newer"
  | "behind"
  | "interrupted"
  | "unsure"
  | "discarded";

/** A call of a handler that is observed. */
export interface ObservedCall {
  /** Calls the handler. What it does belongs to the call. */
  run<T>(call: () => T): T;
  /** What became of a notification that was not simply handled. */
  outcome(notification: ObservedNotification, outcome: Outcome, error: unknown): void;
  /** The handler has ended, and each outcome is told. */
  ended(errors: readonly ({ readonly error: unknown } | undefined)[]): void;
}

/** A page that has arrived. */
export interface Received {
  readonly run: ObservedRun;
  /** Its rows, with their headers as JSON text. */
  readonly rows: readonly { readonly channel: string; readonly headers: string | null }[];
  /** How long it took to arrive, in ms. */
  readonly took: number;
}

/** The names of internal work. */
export type Internal = "hark.claim" | "hark.cleanup" | "hark.migrate";

/** What listens. No function may throw of itself, nor change what is observed. */
export interface Observer {
  /** Gives the headers that join what is written now to the active trace. */
  carry(): Carried;
  /** Observes a call that publishes. `send` is given the headers to add. */
  publish(what: Publishing, send: (carried: Carried) => Promise<readonly Sent[]>): Promise<
    readonly Sent[]
  >;
  /** Observes a call of a handler. */
  handle(what: Handling): ObservedCall;
  /** A page with notifications has arrived. */
  received(what: Received): void;
  /** Observes the storing of progress, of `count` handled notifications. */
  settle<T>(run: ObservedRun, count: number, store: () => Promise<T>): Promise<T>;
  /** Observes other work. */
  internal<T>(name: Internal, db: Queryable, about: About, work: () => Promise<T>): Promise<T>;
  /** Adds to a metric that counts. */
  count(metric: string, value: number, about: About): void;
}

/** What can be asked about a database of this process. */
export interface ObservedDatabase {
  /** How many connections are open. */
  readonly open: number;
  /** Whether LISTEN delivers. Undefined if it is not used. */
  readonly listening: boolean | undefined;
}

/** What can be asked about a handler of streams. */
export interface ObservedStreams {
  /** How many clients have a live response or a long poll. */
  readonly clients: number;
  /** How many sets of channels they read. */
  readonly readers: number;
}

interface Seam {
  /** What listens. Undefined while nothing does. */
  observer: Observer | undefined;
  /** The parts of which `observer` is made. */
  readonly observers: Set<Observer>;
  /** The runs of consumers in this process. */
  readonly runs: Set<ObservedRun>;
  /** The databases that are connected. Weak: a program may forget one without closing it. */
  readonly databases: Set<WeakRef<ObservedDatabase>>;
  /** The handlers of streams, until they are closed. */
  readonly streams: Set<ObservedStreams>;
}

const key = Symbol.for("@hark/postgres:seam:1");

/**
 * What listens, and what runs. All copies of this package in a program share it: a module of
 * consumers may have imported another copy than the program that runs it.
 */
export const seam: Seam = (globalThis as { [key]?: Seam })[key] ??= {
  observer: undefined,
  observers: new Set(),
  runs: new Set(),
  databases: new Set(),
  streams: new Set(),
};

/** The databases that are connected. */
export function connectedDatabases(): ObservedDatabase[] {
  const found: ObservedDatabase[] = [];
  for (const one of seam.databases) {
    const database = one.deref();
    if (database === undefined) seam.databases.delete(one);
    else found.push(database);
  }
  return found;
}

/** Notes that a database is connected. Returns a function that ends that. */
export function noteDatabase(database: ObservedDatabase): () => void {
  const one = new WeakRef(database);
  seam.databases.add(one);
  return () => void seam.databases.delete(one);
}

/** Puts a span around work, if something listens. */
export function observed<T>(
  name: Internal,
  db: Queryable,
  about: About,
  work: () => Promise<T>,
): Promise<T> {
  const { observer } = seam;
  return observer === undefined ? work() : observer.internal(name, db, about, work);
}

/** Adds to a metric that counts, if something listens. */
export function count(metric: string, value: number, about: About = {}): void {
  if (value !== 0) seam.observer?.count(metric, value, about);
}

/** The attribute that names a consumer. */
export function ofConsumer(consumer: string): About {
  return { "messaging.consumer.group.name": consumer };
}
