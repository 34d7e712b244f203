/**
 * What a worker holds in memory: its partitions, the entries read from them, and what is yet to be
 * stored.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import type { OwnedPartition, PositionSource } from "./partition.ts";
import { Entries } from "./entries.ts";
import { type Entry, isPassable } from "./entry.ts";
import type { CheckedOptions, Run } from "./context.ts";
import type { Mark } from "./position.ts";

const logger = getLogger(["hark", "consumer"]);

/** The state of one run of a consumer in this process. This state outlives sessions. */
export class State {
  readonly options: CheckedOptions;
  readonly run: Run;
  readonly partitions = new Map<number, OwnedPartition>();
  /** What reads for the partitions. */
  readonly readers: PositionSource[];
  readonly entries: Entries;
  /** The consumer's number of partitions, as of the last heartbeat. */
  partitionCount = 0;
  /** How long storing an acknowledgement took recently, with the round trip, in milliseconds. */
  commitTime: number | undefined;
  /** The mark that was cut last, and whether few others cut marks too. */
  cut: { readonly at: number; readonly mark: Mark | undefined; readonly byFew: boolean } = {
    at: -Infinity,
    mark: undefined,
    byFew: false,
  };
  /** Whether this run has left a notification to a worker of a newer program. */
  leftToNewer = false;
  /** Whether a private mark has told that it is time to store one. */
  wantsCut = false;
  /** The mark cut when the run started. Notifications that it sees are replays. */
  started: Mark | undefined;

  #heldBackAt = -Infinity;
  /** What was handled ahead of the position at the last call of `tellLate`. */
  #ahead = new Set<Entry>();

  constructor(options: CheckedOptions, run: Run, readers: PositionSource[]) {
    this.readers = readers;
    this.options = options;
    this.run = run;
    this.entries = new Entries(options, this.partitions, (held, why) => this.halt(held, why));
  }

  /** Whether this worker handles everything that is published on its channels. */
  get readsAll(): boolean {
    return this.options.identity.filter === null && this.partitions.size === this.partitionCount;
  }

  /** Remembers a mark that was cut. */
  noteCut(mark: Mark): void {
    const cut = mark.number - (this.cut.mark?.number ?? -Infinity);
    this.cut = { at: performance.now(), mark, byFew: cut > 0 && cut <= 3 };
    this.wantsCut = false;
  }

  /** Of how many notifications the next acknowledgement stores something, at the least. */
  get toStore(): number {
    const { unacknowledged, rows } = this.entries;
    return Math.max(unacknowledged, rows.outcomes.size);
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

  /** How many notifications are read, or wait, and are not handled. */
  get left(): number {
    let sum = this.entries.rows.waiting.size;
    for (const held of this.partitions.values()) {
      for (const entry of held.entries()) if (!isPassable(entry)) sum++;
    }
    return sum;
  }

  /**
   * Stops reading a partition. Entries that were not begun are dropped, and read again when reading
   * continues.
   */
  halt(held: OwnedPartition, why: NonNullable<OwnedPartition["halted"]>): void {
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
    this.#leaveWindowReader(held);
    // Waiting entries are still retried, unless the partition is given back or claimed again as
    // soon as nothing runs.
    this.entries.dropAll(held, why === "release" || why === "unsure");
    this.entries.countBytes();
    this.run.wake.ring();
  }

  /** Makes room by setting aside what limits hold back. Logs now and then if there is no room for it. */
  setAside(): void {
    const kept = this.entries.setAside();
    const now = performance.now();
    if (kept === 0 || now < this.#heldBackAt + 60_000) return;
    this.#heldBackAt = now;
    logger.warn(
      "{consumer}: limits hold back all {count} notifications that were read, and no more of them may wait, so " +
        "nothing further is read. Raise readAhead and maxWaiting, or the limits.",
      { consumer: this.options.identity.consumer, count: kept },
    );
  }

  /**
   * Called before a partition is given back or claimed again. Entries that were handled after an
   * unhandled one are stored as done, because they will be read again together with it.
   */
  tellDone(held: OwnedPartition): void {
    for (const entry of this.#handledAhead(held)) this.entries.rows.tell({ kind: "end", entry });
  }

  /**
   * Has stored as done what was handled after an unhandled entry, if that was so at the last call too:
   * the unhandled one is slow, or limits hold it back. If the process died, all after it would be
   * repeated. An entry that the position passes soon costs nothing.
   *
   * @returns whether there are such entries that were not so at the last call.
   */
  tellLate(): boolean {
    const before = this.#ahead;
    this.#ahead = new Set();
    for (const held of this.partitions.values()) {
      for (const entry of this.#handledAhead(held)) {
        if (before.has(entry)) this.entries.rows.tell({ kind: "end", entry });
        else this.#ahead.add(entry);
      }
    }
    return this.#ahead.size > 0;
  }

  /** The entries that were handled after an unhandled one, and are not told. */
  *#handledAhead(held: OwnedPartition): Generator<Entry> {
    const { outcomes, waiting } = this.entries.rows;
    let ahead = false;
    for (const entry of held.entries()) {
      ahead ||= !isPassable(entry);
      if (
        ahead && entry.phase === "settled" && !entry.told && !entry.stored &&
        !outcomes.has(entry.id) && !waiting.has(entry.id)
      ) yield entry;
    }
  }

  /**
   * Forgets a partition that is no longer this worker's. The results of handlers still running for
   * it do not count.
   */
  forget(held: OwnedPartition, reason: Error): void {
    if (this.partitions.get(held.number) !== held) return;
    this.partitions.delete(held.number);
    this.#leaveWindowReader(held);
    this.entries.forget(held);
    held.lose(reason);
    this.entries.countBytes();
  }

  /** Removes a reader from the list, if it is listed. */
  removeWindowReader(reader: PositionSource): void {
    const at = this.readers.findIndex((one) => one === reader);
    if (at >= 0) this.readers.splice(at, 1);
  }

  #leaveWindowReader(held: OwnedPartition): void {
    const { reader } = held;
    held.reader = undefined;
    if (reader === undefined) return;
    reader.partitions.delete(held);
    if (reader.partitions.size === 0) this.removeWindowReader(reader);
  }
}
