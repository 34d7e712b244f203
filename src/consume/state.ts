/**
 * What a worker has in hand: its partitions, what was read of them, and what is yet to be stored.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { HeldPartition, PositionSource } from "./held.ts";
import { type Entry, Queue } from "./queue.ts";
import type { Reader } from "./reader.ts";
import type { CheckedOptions, Run } from "./run.ts";

const logger = getLogger(["hark", "consumer"]);

/** Something that hark.acknowledge is to store of a notification that did not simply succeed. */
export type Outcome =
  | {
    readonly kind: "park";
    readonly entry: Entry;
    readonly state: "failed" | "behind" | "running";
    /** When it is to be tried again, by `performance.now()`. */
    readonly due: number;
    readonly error: string | null;
  }
  | { readonly kind: "end"; readonly entry: Entry }
  | { readonly kind: "dead"; readonly entry: Entry; readonly error: string };

/** The state of one run of a consumer in this process; it outlives sessions. */
export class State {
  readonly options: CheckedOptions;
  readonly run: Run;
  readonly partitions = new Map<number, HeldPartition>();
  readonly readers: Reader[] = [];
  readonly queue: Queue;
  /** Not known to be stored yet. */
  readonly outcomes = new Map<number, Outcome>();
  /** Rows of hark.waiting, or about to be. */
  readonly waiting = new Map<number, Entry>();
  readonly running = new Set<Entry>();
  /** Bytes of what was read and is not yet handled. */
  bytes = 0;
  /** Into how many partitions the consumer is divided, as it was told last. */
  partitionCount = 0;
  /** How long it took of late to have acknowledgements stored, with the way there and back, in milliseconds. */
  commitTime: number | undefined;
  /** Notifications handled. */
  handled = 0;
  /** Handled since the last acknowledgement. */
  unacknowledged = 0;
  /** What was visible when the run started: that is replay. */
  started: string | undefined;

  constructor(options: CheckedOptions, run: Run) {
    this.options = options;
    this.run = run;
    this.queue = new Queue(options.concurrency === 1, (entry) => this.follow(entry));
  }

  /** Whether all that is published on its channels is for this worker. */
  get readsAll(): boolean {
    return this.options.identity.filter === null && this.partitions.size === this.partitionCount;
  }

  /** How many were read and not yet passed. */
  get outstanding(): number {
    let sum = 0;
    // Of a halted one nothing is read, and what it still has in hand must not keep others from being read.
    for (const held of this.partitions.values()) {
      if (held.halted === undefined) sum += held.outstanding;
    }
    return sum;
  }

  /** What an entry must keep its order in. */
  laneOf(partition: number, key: string | null): string | undefined {
    return this.options.block ? `\0${partition}` : key ?? undefined;
  }

  /** Gives back the memory of a notification that is handled, or will be read again. */
  letGo(entry: Entry): void {
    if (entry.row === undefined) return;
    this.bytes -= sizeOf(entry);
    entry.row = undefined;
  }

  /** An entry comes to wait behind one of its lane that waits. */
  follow(entry: Entry): void {
    // With "block" nothing is read on, and what has been is dropped: see State.halt.
    if (this.options.block) return;
    this.park(entry, "behind", 0, null);
  }

  /** An entry's place is taken by a row of hark.waiting, so that the position may pass it. */
  park(
    entry: Entry,
    state: "failed" | "behind" | "running",
    due: number,
    error: string | null,
  ): void {
    const held = this.partitions.get(entry.partition);
    if (!entry.parked) {
      entry.parked = true;
      this.waiting.set(entry.id, entry);
      if (held !== undefined) held.waiting++;
    }
    if (state !== "running") this.letGo(entry);
    entry.settled = true;
    this.outcomes.set(entry.id, { kind: "park", entry, state, due, error });
    if (held !== undefined && held.halted === undefined) {
      if (held.waiting >= this.options.maxWaiting) this.halt(held, "full");
      else if (this.options.block && state === "failed") this.halt(held, "blocked");
    }
  }

  /** An entry that may have been waiting does so no longer. */
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

  /** Reads no further for a partition; what was not begun is dropped, and read again when that is over. */
  halt(held: HeldPartition, why: NonNullable<HeldPartition["halted"]>): void {
    if (held.halted === "release") return;
    if (why === "full") {
      logger.error(
        "{consumer}: {count} notifications of partition {partition} wait, so it reads no further until half " +
          "are gone; look at hark status, hark dead list and maxWaiting",
        {
          consumer: this.options.identity.consumer,
          count: held.waiting,
          partition: held.number,
        },
      );
    }
    held.halted = why;
    this.#leaveReader(held);
    // What waits goes on being tried, unless all is given back or claimed anew as soon as nothing runs.
    this.queue.drop((n) => n === held.number, why === "release" || why === "unsure");
    this.#forgetBytes();
    this.run.wake.ring();
  }

  /**
   * Before a partition is given back or claimed anew: what was handled behind one that was not is stored as
   * done, as it will be read again with that one.
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

  /** A partition is no longer this worker's. What still runs for it counts no more. */
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

  /** Takes a reader off the list, where it is still on it. */
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

  /** After entries were dropped, their rows are garbage: what is left is counted anew. */
  #forgetBytes(): void {
    const kept = new Set<Entry>([...this.running, ...this.waiting.values()]);
    for (const held of this.partitions.values()) {
      for (const entry of held.entries()) if (!entry.dropped) kept.add(entry);
    }
    this.bytes = 0;
    for (const entry of kept) this.bytes += sizeOf(entry);
  }
}

/** What an entry's notification takes in memory, about. */
export function sizeOf({ row }: Entry): number {
  return row === undefined ? 0 : 200 + (row.payload?.length ?? 0) + (row.headers?.length ?? 0);
}
