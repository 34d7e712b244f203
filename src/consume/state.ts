/**
 * What a worker holds in memory: its partitions, the entries read from them, and what is yet to be
 * stored.
 *
 * @module
 */

import { getLogger } from "../log/logger.ts";
import type { HeldPartition, PositionSource } from "./held.ts";
import { type Entry, Queue, type WaitingRow } from "./queue.ts";
import type { Reader } from "./reader.ts";
import type { CheckedOptions, Run } from "./run.ts";

const logger = getLogger(["hark", "consumer"]);

/** What hark.acknowledge must store for a notification that did not simply succeed. */
export type Outcome =
  | {
    readonly kind: "wait";
    readonly entry: Entry;
    readonly state: "failed" | "behind" | "running";
    /** When to retry the notification, by `performance.now()`. */
    readonly due: number;
    readonly error: string | null;
  }
  | { readonly kind: "end"; readonly entry: Entry }
  | { readonly kind: "dead"; readonly entry: Entry; readonly error: string };

/** The state of one run of a consumer in this process. This state outlives sessions. */
export class State {
  readonly options: CheckedOptions;
  readonly run: Run;
  readonly partitions = new Map<number, HeldPartition>();
  readonly readers: Reader[] = [];
  readonly queue: Queue;
  /** Outcomes that are not known to be stored yet. */
  readonly outcomes = new Map<number, Outcome>();
  /** Entries that have, or are about to have, a row in hark.waiting. */
  readonly waiting = new Map<number, Entry>();
  readonly running = new Set<Entry>();
  /** Bytes of the notifications that were read and are not yet handled. */
  bytes = 0;
  /** The consumer's number of partitions, as of the last heartbeat. */
  partitionCount = 0;
  /** How long storing an acknowledgement took recently, with the round trip, in milliseconds. */
  commitTime: number | undefined;
  /** How many notifications were handled. */
  handled = 0;
  /** How many notifications were handled since the last acknowledgement. */
  unacknowledged = 0;
  /** The snapshot taken when the run started. Notifications visible in it are replays. */
  started: string | undefined;

  constructor(options: CheckedOptions, run: Run) {
    this.options = options;
    this.run = run;
    this.queue = new Queue(options.concurrency === 1, (entry) => this.follow(entry));
  }

  /** Whether this worker handles everything that is published on its channels. */
  get readsAll(): boolean {
    return this.options.identity.filter === null && this.partitions.size === this.partitionCount;
  }

  /** How many notifications were read and not yet passed. */
  get outstanding(): number {
    let sum = 0;
    // Nothing is read for a halted partition. Its unfinished entries must not keep other partitions
    // from being read.
    for (const held of this.partitions.values()) {
      if (held.halted === undefined) sum += held.outstanding;
    }
    return sum;
  }

  /** The lane in which an entry keeps its order. */
  laneOf(partition: number, key: string | null): string | undefined {
    return this.options.block ? `\0${partition}` : key ?? undefined;
  }

  /** Frees the memory of a notification that is handled, or will be read again. */
  letGo(entry: Entry): void {
    if (entry.row === undefined) return;
    this.bytes -= sizeOf(entry);
    entry.row = undefined;
  }

  /** Makes an entry wait behind a waiting one of its lane. */
  follow(entry: Entry): void {
    // With "block", reading has stopped, and entries already read are dropped: see State.halt.
    if (this.options.block) return;
    this.park(entry, "behind", 0, null);
  }

  /** Gives an entry a row in hark.waiting, so that the position may pass it. */
  park(
    entry: Entry,
    state: "failed" | "behind" | "running",
    due: number,
    error: string | null,
  ): void {
    const held = this.partitions.get(entry.partition);
    if (!entry.parked) {
      entry.parked = true;
      entry.wait = waitingRow(false);
      this.waiting.set(entry.id, entry);
      if (held !== undefined) held.waiting++;
    }
    if (state !== "running") this.letGo(entry);
    entry.settled = true;
    this.outcomes.set(entry.id, { kind: "wait", entry, state, due, error });
    if (held !== undefined && held.halted === undefined) {
      if (held.waiting >= this.options.maxWaiting) this.halt(held, "full");
      else if (this.options.block && state === "failed") this.halt(held, "blocked");
    }
  }

  /** Ends the waiting of an entry, if it was waiting. */
  unpark(entry: Entry): void {
    if (!entry.parked) return;
    entry.parked = false;
    this.waiting.delete(entry.id);
    const held = this.partitions.get(entry.partition);
    if (held === undefined) return;
    held.waiting--;
    const over = held.halted === "blocked" && held.waiting === 0 ||
      held.halted === "full" && held.waiting < this.options.maxWaiting / 2;
    if (!over) return;
    held.halted = "unsure";
    this.queue.drop((n) => n === held.number, true);
  }

  /**
   * Stops reading a partition. Entries that were not begun are dropped, and read again when reading
   * continues.
   */
  halt(held: HeldPartition, why: NonNullable<HeldPartition["halted"]>): void {
    if (held.halted === "release") return;
    if (why === "full") {
      logger.error(
        "{consumer}: partition {partition} has {count} waiting notifications; reading stops until half of " +
          "maxWaiting is left. Look at hark status and hark dead list.",
        {
          consumer: this.options.identity.consumer,
          count: held.waiting,
          partition: held.number,
        },
      );
    }
    held.halted = why;
    this.#leaveReader(held);
    // Waiting entries are still retried, unless the partition is given back or claimed again as
    // soon as nothing runs.
    this.queue.drop((n) => n === held.number, why === "release" || why === "unsure");
    this.#forgetBytes();
    this.run.wake.ring();
  }

  /**
   * Called before a partition is given back or claimed again. Entries that were handled after an
   * unhandled one are stored as done, because they will be read again together with it.
   */
  tellDone(held: HeldPartition): void {
    let behind = false;
    for (const entry of held.entries()) {
      behind ||= !entry.settled;
      if (
        behind && entry.settled && !entry.parked && !this.outcomes.has(entry.id) &&
        !this.waiting.has(entry.id)
      ) {
        this.outcomes.set(entry.id, { kind: "end", entry });
      }
    }
  }

  /**
   * Forgets a partition that is no longer this worker's. The results of handlers still running for
   * it do not count.
   */
  forget(held: HeldPartition, reason: Error): void {
    if (this.partitions.get(held.number) !== held) return;
    this.partitions.delete(held.number);
    this.unacknowledged -= held.handled;
    this.#leaveReader(held);
    this.queue.drop((n) => n === held.number, true);
    for (const entry of this.running) if (entry.partition === held.number) entry.dropped = true;
    for (const [id, { entry }] of this.outcomes) {
      if (entry.partition === held.number) this.outcomes.delete(id);
    }
    for (const [id, entry] of this.waiting) {
      if (entry.partition === held.number) this.waiting.delete(id);
    }
    held.lose(reason);
    this.#forgetBytes();
  }

  /** Removes a reader from the list, if it is listed. */
  removeReader(reader: PositionSource): void {
    const at = this.readers.findIndex((one) => one === reader);
    if (at >= 0) this.readers.splice(at, 1);
  }

  #leaveReader(held: HeldPartition): void {
    const { reader } = held;
    held.reader = undefined;
    if (reader === undefined) return;
    reader.partitions.delete(held);
    if (reader.partitions.size === 0) this.removeReader(reader);
  }

  /** Counts the bytes again after entries were dropped, because their rows are garbage. */
  #forgetBytes(): void {
    const kept = new Set<Entry>([...this.running, ...this.waiting.values()]);
    for (const held of this.partitions.values()) {
      for (const entry of held.entries()) if (!entry.dropped) kept.add(entry);
    }
    this.bytes = 0;
    for (const entry of kept) this.bytes += sizeOf(entry);
  }
}

/** A row of hark.waiting of which nothing was asked yet. */
export function waitingRow(stored: boolean, hurried = 0): WaitingRow {
  return { stored, hurried, again: false, discarded: false, extraUntil: undefined };
}

/** About how many bytes of memory an entry's notification takes. */
export function sizeOf({ row }: Entry): number {
  return row === undefined ? 0 : 200 + (row.payload?.length ?? 0) + (row.headers?.length ?? 0);
}
