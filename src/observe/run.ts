/**
 * A run of a consumer, as probes and telemetry see it.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";

/**
 * What a run is doing:
 *
 * - `"starting"`: it has not yet asked for its share of the partitions.
 * - `"serving"`: it serves partitions.
 * - `"standing by"`: other workers serve all partitions, or a newer definition counts.
 * - `"asleep"`: it has had nothing to do, and asks the database nothing until it is woken.
 * - `"reconnecting"`: its connection is lost, and it tries to connect again.
 * - `"stopping"`: it lets running handlers finish.
 */
export type RunState =
  | "starting"
  | "serving"
  | "standing by"
  | "asleep"
  | "reconnecting"
  | "stopping";

/** What a run is made of, as far as it is looked at. */
interface Parts {
  readonly state: { readonly partitions: ReadonlyMap<number, unknown> };
  readonly dispatcher: { readonly calls: number };
  readonly assignment: { certain(now: number): boolean };
}

/** One run of a consumer in this process. Times are by `performance.now()`. */
export class ObservedRun {
  readonly consumer: string;
  /** The worker's name, as the database knows it. */
  readonly worker: string;
  readonly db: Queryable;
  /** When its loop last turned. It turns at least once a minute. */
  turnedAt: number = performance.now();
  /** Whether its heartbeats succeed: it has a connection. */
  connected = false;
  /** Whether it sleeps. Its loop does not turn then. */
  asleep = false;
  #begun = false;
  #stopping = false;
  #parts: Parts | undefined;

  constructor(consumer: string, worker: string, db: Queryable) {
    this.consumer = consumer;
    this.worker = worker;
    this.db = db;
  }

  /** Names what the run is made of. */
  consistsOf(
    state: Parts["state"],
    assignment: Parts["assignment"],
    dispatcher: Parts["dispatcher"],
  ): void {
    this.#parts = { state, assignment, dispatcher };
  }

  /** The loop turns once more. */
  turn(stopping: boolean): void {
    this.turnedAt = performance.now();
    this.#stopping = stopping;
  }

  /** A heartbeat has succeeded. */
  beat(): void {
    this.connected = this.#begun = true;
  }

  /** How many partitions it serves. */
  get partitions(): number {
    return this.#parts?.state.partitions.size ?? 0;
  }

  /** How many handler calls run. */
  get inFlight(): number {
    return this.#parts?.dispatcher.calls ?? 0;
  }

  /** Whether certainly no other worker has taken over. */
  get holdsLease(): boolean {
    return this.#parts?.assignment.certain(performance.now()) ?? false;
  }

  /** What it is doing. */
  get state(): RunState {
    if (this.#stopping) return "stopping";
    if (this.asleep) return "asleep";
    if (!this.connected) return this.#begun ? "reconnecting" : "starting";
    return this.partitions > 0 ? "serving" : "standing by";
  }
}
