/**
 * The functions that change an entry. Each does all that belongs to the change: the phase, the queue,
 * the row of hark.waiting, the counters, the memory. Only these and `WaitingRows` change one.
 *
 * @module
 */

import type { LogRow } from "../notification.ts";
import type { CheckedOptions } from "./context.ts";
import { change, type Entry, isOver, sizeOf } from "./entry.ts";
import { foundEntry, type FoundRow, readEntry } from "./new_entry.ts";
import { KeyQueue } from "./key_queue.ts";
import { Turns } from "./turns.ts";
import type { OwnedPartition } from "./partition.ts";
import type { Position } from "./position.ts";
import { type Halt, type Wait, WaitingRows } from "./waiting_rows.ts";
import type { Work } from "./work.ts";

const behind: Wait = { state: "behind", due: 0, error: null };

/** The entries of one worker. */
export class Entries {
  readonly queue: KeyQueue;
  readonly rows: WaitingRows;
  /** The entries whose handlers have returned promises that are not settled. */
  readonly running = new Set<Entry>();
  /** Bytes of the notifications that were read and are not yet handled. */
  bytes = 0;
  /** How many notifications were handled. */
  handled = 0;
  /** How many notifications were handled since the last acknowledgement. */
  unacknowledged = 0;
  readonly #options: CheckedOptions;
  readonly #partitions: ReadonlyMap<number, OwnedPartition>;

  /** @param halt Called for a partition in which no more may wait. */
  constructor(
    options: CheckedOptions,
    partitions: ReadonlyMap<number, OwnedPartition>,
    halt: Halt,
  ) {
    this.#options = options;
    this.#partitions = partitions;
    this.rows = new WaitingRows(options, partitions, halt, (held) => {
      held.halted = "unsure";
      this.dropAll(held, true);
    });
    const { concurrency, sharing } = options;
    this.queue = new KeyQueue(
      concurrency === 1 && sharing === undefined,
      (entry) => this.follow(entry),
      sharing && new Turns(sharing),
    );
  }

  /** The lane in which an entry keeps its order. */
  laneOf(partition: number, key: string | null): string | undefined {
    return this.#options.block ? `\0${partition}` : key ?? undefined;
  }

  /** A notification was read from the log: it becomes ready, or settled if that is known. */
  read(row: LogRow, held: OwnedPartition, page: Position): void {
    const entry = readEntry(row, held, page, this.laneOf(held.number, row.key));
    held.add(entry);
    if (entry.phase === "settled") return;
    this.bytes += sizeOf(entry);
    this.queue.add(entry);
  }

  /** A row of hark.waiting was found: its entry waits. */
  find(row: FoundRow, held: OwnedPartition): void {
    const now = performance.now();
    const entry = foundEntry(row, held, now, this.laneOf(held.number, row.key));
    if (!row.passed) held.done.add(row.id);
    this.rows.add(entry, held);
    // What needs a newer worker is tried at once: this one may be it.
    const atOnce = row.state === "newer" || entry.wait?.extraUntil !== undefined;
    this.queue.addWaiting(entry, atOnce ? now : now + row.wait);
  }

  /** The row of a waiting entry is gone: it was discarded. Returns whether no handler runs for it. */
  discard(entry: Entry): boolean {
    if (entry.startedAt === 0) this.finish(entry, true);
    else this.rows.discard(entry);
    return entry.startedAt === 0;
  }

  /** A waiting entry that is due was read again. */
  load(entry: Entry, row: LogRow): void {
    change(entry).row = row;
    this.bytes += sizeOf(entry);
    this.queue.loaded([entry]);
  }

  /** A waiting entry ends without being handled. Of a row that is gone nothing is stored: see succeed. */
  finish(entry: Entry, isGone = false): void {
    change(entry).phase = "settled";
    this.#end(entry, isGone ? undefined : { kind: "end", entry });
  }

  /** The handler of taken entries is about to be called. Returns their partitions. */
  begin(entries: readonly Entry[], now: number): OwnedPartition[] {
    const helds = [this.#partitions.get(entries[0]!.partition)!];
    for (const entry of entries) {
      change(entry).phase = "running";
      change(entry).startedAt = now;
      const held = this.#partitions.get(entry.partition)!;
      if (!helds.includes(held)) helds.push(held);
    }
    return helds;
  }

  /** The handler of begun entries has returned a promise. */
  awaits({ entries, held }: Work): void {
    for (const entry of entries) this.running.add(entry);
    for (const one of held) one.running++;
  }

  /** That promise is settled. What the results lead to is told next. */
  returned({ entries, held }: Work): void {
    for (const entry of entries) this.running.delete(entry);
    for (const one of held) one.running--; // as they were when the handler began: lost by now, maybe
  }

  /** An entry was handled. */
  settle(entry: Entry): void {
    if (entry.phase !== "dropped") change(entry).phase = "settled";
  }

  /** A settled entry's handler has succeeded. */
  succeed(entry: Entry): void {
    if (entry.phase === "dropped") return this.#over(entry);
    this.handled++;
    this.unacknowledged++;
    this.#partitions.get(entry.partition)!.handled++;
    // By the handler's own transaction, or discarded. A row that is there by now is for a replay.
    const isGone = this.#options.identity.transactional || entry.wait?.discarded;
    this.#end(entry, !entry.stored || isGone ? undefined : { kind: "end", entry });
  }

  /** An attempt has failed, or needs a newer worker. The handler is called again when it is due. */
  retry(
    entry: Entry,
    attempts: number,
    due: number,
    error: string,
    state: "failed" | "newer" = "failed",
  ): void {
    change(entry).attempts = attempts;
    this.rows.attempted(entry);
    this.#store(entry, { state, due, error });
    this.queue.wait(entry, due);
    change(entry).startedAt = 0;
  }

  /** An entry is given up, and becomes a dead letter. */
  bury(entry: Entry, attempts: number, error: string): void {
    change(entry).attempts = attempts;
    change(entry).phase = "settled";
    this.#end(entry, { kind: "dead", entry, error });
  }

  /** A running entry's result does not count: its place is with those that are read again. */
  drop(entry: Entry): void {
    change(entry).phase = "dropped";
    this.#over(entry);
  }

  /**
   * It is not known whether a running entry is done: what is stored decides. `halt` stops reading its
   * partition, which is claimed again.
   */
  unsure(entry: Entry, held: OwnedPartition, halt: () => void): void {
    if (!entry.stored) change(entry).phase = "dropped";
    halt();
    for (const other of this.rows.waiting.values()) {
      if (other.partition === held.number && other.startedAt === 0) change(other).phase = "dropped";
    }
    this.dropAll(held, true);
    this.#over(entry);
  }

  /** The handlers of entries were not called after all: they are called again, before all others. */
  repeat(entries: readonly Entry[]): void {
    for (const entry of entries) this.#unbegin(entry);
    this.queue.putBack(entries);
  }

  /**
   * Puts an entry of a batch back behind another one of its lane, if that one is still to be
   * handled. If so, no result of the entry counts.
   */
  comesAgain(entry: Entry): boolean {
    if (!this.queue.isBehind(entry)) return false;
    this.#unbegin(entry);
    this.queue.comeBehind(entry);
    return true;
  }

  /** A running entry's handler is slow: the position may pass the entry before it returns. */
  pass(entry: Entry, now: number): void {
    this.rows.store(entry, { state: "running", due: now, error: null });
    this.queue.hold(entry);
  }

  /**
   * Entries that limits hold back give their memory up, and get rows in hark.waiting, so that the
   * position may pass them. They are read again when their turn comes. Half of what may wait is left
   * for failures.
   *
   * @returns how many could not get a row, because too many wait.
   */
  setAside(): number {
    const most = this.#options.maxWaiting / 2;
    let kept = 0;
    for (const entry of this.queue.ready.heldBack()) {
      const held = this.#partitions.get(entry.partition);
      if (held === undefined || held.halted !== undefined || isOver(entry)) continue;
      if (entry.stored) this.#letGo(entry);
      // With "block" the position passes nothing that is not handled.
      else if (this.#options.block || held.waiting + this.queue.countBehind(entry) >= most) kept++;
      else {
        this.#store(entry, behind);
        this.queue.hold(entry);
      }
    }
    return kept;
  }

  /** An entry is behind a waiting one of its lane. */
  follow(entry: Entry): void {
    // With "block", reading has stopped, and entries already read are dropped: see State.halt.
    if (!this.#options.block) this.#store(entry, behind);
  }

  /** Drops the entries of a partition. Only with `andWaiting` also those that wait. */
  dropAll({ number }: OwnedPartition, andWaiting: boolean): void {
    this.queue.drop((entry) => {
      if (entry.partition !== number || entry.stored && !andWaiting) return false;
      if (entry.phase === "settled") return false; // of a batch whose results are being told
      change(entry).phase = "dropped";
      return true;
    });
  }

  /** Forgets the entries of a lost partition. The results of their handlers do not count. */
  forget(held: OwnedPartition): void {
    this.unacknowledged -= held.handled;
    this.dropAll(held, true);
    for (const entry of this.running) {
      if (entry.partition === held.number) change(entry).phase = "dropped";
    }
    this.rows.forget(held);
  }

  /** Counts the bytes again after entries were dropped, because their rows are garbage. */
  countBytes(): void {
    const kept = new Set<Entry>([...this.running, ...this.rows.waiting.values()]);
    for (const held of this.#partitions.values()) {
      for (const entry of held.entries()) if (entry.phase !== "dropped") kept.add(entry);
    }
    this.bytes = [...kept].reduce((sum, entry) => sum + sizeOf(entry), 0);
  }

  /** Gives an entry a row in hark.waiting. It is read again when its turn comes. */
  #store(entry: Entry, why: Wait): void {
    this.#letGo(entry);
    this.rows.store(entry, why);
  }

  /** Frees the memory of a notification that is handled, or will be read again. */
  #letGo(entry: Entry): void {
    if (entry.row === undefined) return;
    this.bytes -= sizeOf(entry);
    change(entry).row = undefined;
  }

  /** As before its handler was called. */
  #unbegin(entry: Entry): void {
    change(entry).phase = entry.stored ? "waiting" : "ready";
    change(entry).startedAt = 0;
  }

  /** An entry has ended, and no longer waits. If nothing is to be stored of it, there is no outcome. */
  #end(entry: Entry, outcome: Parameters<WaitingRows["tell"]>[0] | undefined): void {
    if (outcome !== undefined) this.rows.tell(outcome);
    else if (entry.stored) this.rows.outcomes.delete(entry.id);
    this.#letGo(entry);
    if (entry.stored) this.rows.remove(entry);
    this.#over(entry);
  }

  /** Nothing more is to come of an entry. The next of its lane may begin. */
  #over(entry: Entry): void {
    this.queue.end(entry);
    change(entry).startedAt = 0;
  }
}
