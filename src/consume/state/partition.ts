/**
 * A partition while a worker owns it: the entries read from it, and how far its position may move.
 *
 * @module
 */

import type { PageLimits } from "./context.ts";
import { type Entry, isPassable } from "./entry.ts";
import type { Claimed } from "./identity.ts";
import { isSamePlace, type Position } from "./position.ts";

/** What reads for partitions, as far as others have to know it. */
export interface PositionSource {
  /** As loaded, or after the pages read since. */
  readonly position: Position;
  /** Whether there is something to store. */
  dirty: boolean;
  /** Whether it has moved, past nothing that has to be stored soon. */
  moved: boolean;
  /** Whether a window is open that is not read to its end. */
  readonly inWindow: boolean;
  /** Whether a window that was opened in this run has been read to its end. */
  readonly fresh: boolean;
  /** Whether there is nothing more to read until the number of partitions has changed. */
  readonly settled: boolean;
  /** The limits of a page that was requested ahead. */
  readonly ahead: PageLimits | undefined;
  /** The partitions that it reads for. */
  readonly partitions: Set<OwnedPartition>;
}

/** A partition that this worker owns under an epoch. */
export class OwnedPartition {
  readonly number: number;
  /** Rises with each claim. The database refuses calls under an earlier epoch. */
  epoch: number;
  /**
   * The server's incarnation. It changes after a crash or a fail-over, when the server may give out
   * the same ids again.
   */
  readonly incarnation: string;
  /** The reader of the partition. Undefined while nothing is to be read. */
  reader: PositionSource | undefined;
  /**
   * Why reading has stopped:
   *
   * - `"release"`: the partition is to be given back.
   * - `"blocked"`: the partition waits behind a failed notification.
   * - `"full"`: too many notifications of the partition wait.
   * - `"unsure"`: it is not known what is stored, so the partition must be claimed again.
   */
  halted: "release" | "blocked" | "full" | "unsure" | undefined;
  /** Whether the database knows that the partition is halted. */
  haltTold = false;
  /** Whether the partition's waiting and done notifications are known. */
  complete = false;
  /**
   * Whether what waits is tried once at once: this worker has just started, and it is alone. The
   * cause of a failure may have been repaired with the restart.
   */
  restarted = false;
  /** How many calls of handlers with entries of the partition are awaited. */
  running = 0;
  /** How many rows of hark.waiting the partition has, as far as this worker knows. */
  waiting = 0;
  /** How many notifications were handled since the last acknowledgement known to be stored. */
  handled = 0;
  /** How many acknowledgements of the partition were stored in this claim. */
  acknowledgements = 0;
  /**
   * How many owners in a row have crashed without getting past the unacknowledged notifications.
   */
  crashes: number;
  /** How many entries to be read may still belong to that unacknowledged part. */
  tail: number;
  /** The notification that was being handled alone when the last owner crashed. */
  suspectId: number | undefined;
  /** How many owners in a row crashed while handling that notification. */
  readonly suspectEnds: number;
  /**
   * Notifications beyond the position that are done or waiting. They will be read again, and are
   * skipped then.
   */
  readonly done = new Set<number>();
  /** Aborts when the partition is lost. */
  #lost = new AbortController();
  #signal: AbortSignal | undefined;
  readonly #abandon: AbortSignal;
  #entries: Entry[] = [];
  #head = 0;
  #stored: Position;
  /** The last entry that was read, until a position beyond it is stored. */
  #last: Entry | undefined;

  constructor(claimed: Claimed, readAhead: number, abandon: AbortSignal) {
    this.#abandon = abandon;
    this.number = claimed.partition;
    this.epoch = claimed.epoch;
    this.incarnation = claimed.incarnation;
    this.crashes = claimed.crashes;
    this.tail = claimed.crashes > 0 ? readAhead : 0;
    this.suspectId = claimed.suspectId;
    this.suspectEnds = claimed.suspectEnds;
    this.#stored = claimed.position;
  }

  /** The signal for handlers. Aborts when the partition is lost, or when the run is abandoned. */
  get signal(): AbortSignal {
    return this.#signal ??= AbortSignal.any([this.#lost.signal, this.#abandon]);
  }

  /** Aborts the signal of the partition's handlers: their results may not count. */
  lose(reason: Error): void {
    this.#lost.abort(reason);
  }

  /**
   * This worker certainly serves the partition again. Handlers called from now on get a new signal.
   */
  regain(epoch: number): void {
    if (epoch !== this.epoch) this.haltTold = false; // a claim forgets it
    this.epoch = epoch;
    if (!this.#lost.signal.aborted) return;
    this.#lost = new AbortController();
    this.#signal = undefined;
  }

  /**
   * Whether all that was read stays valid under a new claim: no other worker has owned the partition since the
   * last one, and the server did not crash. If the answer of a claim was lost, `mine` tells: a heartbeat named
   * the partition as this worker's under the next epoch, and another owner would have raised it once more.
   * Cleaning raises it too, while no lease runs, but it moves the position.
   *
   * @param mine Under which epoch the heartbeat before the claim named the partition as this worker's.
   */
  isStillOwn(again: Claimed, mine: number | undefined): boolean {
    const next = this.epoch + 1;
    const isNext = again.epoch === next ||
      again.epoch === next + 1 && mine === next && isSamePlace(again.position, this.#stored);
    return isNext && again.incarnation === this.incarnation && this.halted !== "unsure" &&
      this.complete;
  }

  /**
   * How many entries were read that the position may not pass yet. Entries handled out of order are
   * included.
   */
  get outstanding(): number {
    return this.#entries.length - this.#head;
  }

  /** The oldest entry that the position may not pass. */
  get oldest(): Entry | undefined {
    this.#skip();
    return this.#entries[this.#head];
  }

  /** The entries that were read and not passed. */
  entries(): readonly Entry[] {
    return this.#entries.slice(this.#head);
  }

  /** Adds an entry, in the order read. */
  add(entry: Entry): void {
    this.#entries.push(entry);
    this.#last = entry;
  }

  #skip(): void {
    while (this.#head < this.#entries.length && isPassable(this.#entries[this.#head]!)) {
      this.#head++;
      if (this.tail > 0) this.tail--;
    }
    if (this.#head > 1000 && this.#head * 2 > this.#entries.length) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Where the position may move now. Undefined if it would not move. */
  get move(): Position | undefined {
    const oldest = this.oldest;
    const move = oldest !== undefined
      ? { ...oldest.page!, lastId: oldest.id - 1 }
      : this.reader?.dirty
      ? this.reader.position
      : this.reader === undefined && this.#last !== undefined
      ? { ...this.#last.page!, lastId: this.#last.id }
      : undefined;
    return move === undefined || isSamePlace(move, this.#stored) ? undefined : move;
  }

  /** Records that a move was stored. */
  stored(move: Position): void {
    this.#stored = move;
    if (move.target === undefined || move === this.reader?.position) this.#last = undefined;
  }
}
