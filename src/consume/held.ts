/**
 * A partition while a worker holds it: what was read of it and how far its position may move.
 *
 * @module
 */

import type { Claimed } from "./member.ts";
import type { Entry } from "./queue.ts";

/** What reads for partitions, as far as a partition has to know it. */
export interface PositionSource {
  /** As loaded, or after the pages read since. */
  readonly position: string;
  /** Whether there is something to store. */
  readonly dirty: boolean;
  /** Whether a window is read to its end and not yet passed. */
  readonly ended: boolean;
  /** The partitions that it reads for. */
  readonly partitions: Set<HeldPartition>;
  /** The window is behind it. */
  passed(position: string): void;
}

/** Where a position is to be moved: after a page, or only through an id of it. */
export interface Move {
  readonly position: string;
  readonly through: number | null;
}

/** A partition that is held under an epoch. */
export class HeldPartition {
  readonly number: number;
  /** Rises with each claim; what is sent under an earlier one is refused. */
  epoch: number;
  /** Of the server: another after a crash or a fail-over, where ids may be given out again. */
  readonly incarnation: string;
  /** Reads for it; undefined where nothing is to be read for now. */
  reader: PositionSource | undefined;
  /**
   * Why nothing is read: it is to be given back, waits behind a failure, has too many waiting, or has to
   * be claimed again as it is not known what is stored.
   */
  halted: "release" | "blocked" | "full" | "unsure" | undefined;
  /** Whether it is known what waits in it and what is done. */
  complete = false;
  /** Handlers running for it. */
  running = 0;
  /** Rows of hark.waiting, as far as is known. */
  waiting = 0;
  /** Handled since the last acknowledgement that is known to be stored. */
  handled = 0;
  /** How many owners in a row have ended without getting past what is unacknowledged. */
  crashes: number;
  /** How many entries may still be of that part. */
  tail: number;
  /** What was handled alone when the last owner ended. */
  suspectId: number | undefined;
  /** How many owners in a row ended then. */
  readonly suspectEnds: number;
  /** What is done, or waits, beyond the position: it will be read again, and is passed over then. */
  readonly done = new Set<number>();
  /** Aborts when it is lost. */
  #lost = new AbortController();
  #signal: AbortSignal | undefined;
  readonly #abandon: AbortSignal;
  #entries: Entry[] = [];
  #head = 0;
  #stored: Move;
  /** The last that was read, while no position beyond it is stored. */
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
    this.#stored = { position: claimed.position, through: null };
  }

  /** For handlers: aborts when the partition is lost, or all is abandoned. */
  get signal(): AbortSignal {
    return this.#signal ??= AbortSignal.any([this.#lost.signal, this.#abandon]);
  }

  /** Tells its handlers that what they do may not count. */
  lose(reason: Error): void {
    this.#lost.abort(reason);
  }

  /** It is certain again that this worker serves it: for handlers yet to be called. */
  regain(epoch: number): void {
    this.epoch = epoch;
    if (!this.#lost.signal.aborted) return;
    this.#lost = new AbortController();
    this.#signal = undefined;
  }

  /** What was read and may not be passed yet, with what was handled out of turn. */
  get outstanding(): number {
    return this.#entries.length - this.#head;
  }

  /** The oldest that may not be passed. */
  get oldest(): Entry | undefined {
    this.#skip();
    return this.#entries[this.#head];
  }

  /** What was read and is not passed. */
  entries(): readonly Entry[] {
    return this.#entries.slice(this.#head);
  }

  /** Takes in an entry in the order read. */
  add(entry: Entry): void {
    this.#entries.push(entry);
    this.#last = entry;
  }

  #skip(): void {
    while (this.#head < this.#entries.length && this.#entries[this.#head]!.settled) {
      this.#head++;
      if (this.tail > 0) this.tail--;
    }
    if (this.#head > 1000 && this.#head * 2 > this.#entries.length) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Where the position may be moved now; undefined where it would not move. */
  get move(): Move | undefined {
    const oldest = this.oldest;
    const move = oldest !== undefined
      ? { position: oldest.page!, through: oldest.id - 1 }
      : this.reader?.dirty
      ? { position: this.reader.position, through: null }
      : this.reader === undefined && this.#last !== undefined
      ? { position: this.#last.page!, through: this.#last.id }
      : undefined;
    return move === undefined ||
        move.position === this.#stored.position && move.through === this.#stored.through
      ? undefined
      : move;
  }

  /** A move was stored; `position` is what to go on from. */
  stored(move: Move): void {
    this.#stored = move;
    if (move.through === null) this.#last = undefined;
  }
}
