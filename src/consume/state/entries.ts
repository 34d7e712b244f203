/**
 * The only functions that change an entry. Each does all that belongs to the change: the phase, the
 * queue, the row of hark.waiting, the counters, the memory.
 *
 * @module
 */

import type { LogRow } from "../notification.ts";
import type { CheckedOptions } from "./context.ts";
import { type Entry, isOver, type Outcome, sizeOf, type WaitingRow, waitingRow } from "./entry.ts";
import { foundEntry, type FoundRow, readEntry } from "./new_entry.ts";
import { KeyQueue } from "./key_queue.ts";
import { Turns } from "./turns.ts";
import type { OwnedPartition } from "./partition.ts";

type Halt = (held: OwnedPartition, why: "blocked" | "full") => void;

/** The entries of one worker. */
export class Entries {
  readonly queue: KeyQueue;
  /** Outcomes that are not known to be stored yet. */
  readonly outcomes = new Map<number, Outcome>();
  /** Entries that have, or are about to have, a row in hark.waiting. */
  readonly waiting = new Map<number, Entry>();
  readonly running = new Set<Entry>();
  /** Bytes of the notifications that were read and are not yet handled. */
  bytes = 0;
  /** How many notifications were handled. */
  handled = 0;
  /** How many notifications were handled since the last acknowledgement. */
  unacknowledged = 0;
  readonly #options: CheckedOptions;
  readonly #partitions: ReadonlyMap<number, OwnedPartition>;
  readonly #halt: Halt;

  /** @param halt Called for a partition in which no more may wait. */
  constructor(
    options: CheckedOptions,
    partitions: ReadonlyMap<number, OwnedPartition>,
    halt: Halt,
  ) {
    this.#options = options;
    this.#partitions = partitions;
    this.#halt = halt;
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
  read(row: LogRow, held: OwnedPartition, page: string): void {
    const entry = readEntry(row, held, page, this.laneOf(held.number, row.key));
    held.add(entry);
    if (entry.phase === "settled") return;
    this.bytes += sizeOf(entry);
    this.queue.add(entry);
  }

  /** A row of hark.waiting was found: its entry waits. */
  find(row: FoundRow, held: OwnedPartition): void {
    const { id } = row;
    const now = performance.now();
    const entry = foundEntry(row, held, now, this.laneOf(held.number, row.key));
    if (!row.passed) held.done.add(id);
    this.waiting.set(id, entry);
    held.waiting++;
    // What needs a newer worker is tried at once: this one may be it.
    const atOnce = row.state === "newer" || entry.wait?.extraUntil !== undefined;
    this.queue.addWaiting(entry, atOnce ? now : now + row.wait);
  }

  /** The row of a waiting entry is certainly stored. */
  confirm({ wait }: Entry): void {
    if (wait !== undefined) changeRow(wait).certain = true;
  }

  /**
   * The row of a waiting entry was found again.
   *
   * @returns whether an attempt at once was asked for since, and no handler runs.
   */
  isHurried(entry: Entry, hurried: number): boolean {
    const row = changeRow(entry.wait!);
    row.certain = true;
    row.discarded = false; // it is there once more, for a replay
    if (hurried <= row.hurried) return false;
    row.hurried = hurried;
    row.again ||= entry.startedAt > 0;
    return entry.startedAt === 0;
  }

  /**
   * The row of a waiting entry is gone, because it was discarded. If its handler runs, that is left to
   * its result.
   *
   * @returns whether the entry has ended.
   */
  discard(entry: Entry): boolean {
    if (entry.startedAt === 0) this.abandon(entry);
    else changeRow(entry.wait!).discarded = true;
    return entry.startedAt === 0;
  }

  /**
   * A waiting entry whose row is gone ends without being handled. It leaves nothing to
   * store: the row may be there again by then, for a replay.
   */
  abandon(entry: Entry): void {
    change(entry).phase = "settled";
    this.outcomes.delete(entry.id);
    this.#letGo(entry);
    this.#remove(entry);
    this.#over(entry);
  }

  /** A waiting entry that is due was read again. */
  load(entry: Entry, row: LogRow): void {
    change(entry).row = row;
    this.bytes += sizeOf(entry);
    this.queue.loaded([entry]);
  }

  /** A waiting entry ends without being handled, as its notification is gone. */
  finish(entry: Entry): void {
    this.abandon(entry);
    this.outcomes.set(entry.id, { kind: "end", entry });
  }

  /** The handler of a taken entry is about to be called. */
  begin(entry: Entry, now: number): OwnedPartition {
    const changing = change(entry);
    changing.phase = "running";
    changing.startedAt = now;
    this.running.add(entry);
    const held = this.#partitions.get(entry.partition)!;
    held.running++;
    return held;
  }

  /** The handlers of entries of a partition have returned. What their results lead to is told next. */
  returned(entries: readonly Entry[], helds: readonly OwnedPartition[]): void {
    if (entries.length === 1) {
      this.running.delete(entries[0]!);
      helds[0]!.running--;
      return;
    }
    for (const entry of entries) {
      this.running.delete(entry);
      // The partition as it was when the handlers began: it may be lost by now.
      helds.find((held) => held.number === entry.partition)!.running--;
    }
  }

  /** An entry was handled. */
  settle(entry: Entry): void {
    if (entry.phase !== "dropped") change(entry).phase = "settled";
  }

  /** A settled entry's handler has succeeded. */
  succeed(entry: Entry): void {
    if (entry.phase !== "dropped") {
      this.handled++;
      this.unacknowledged++;
      this.#partitions.get(entry.partition)!.handled++;
      // A transactional handler's own transaction has removed the row, or a discard has. A row that is
      // there by now is a new one, for a replay.
      const isGone = this.#options.identity.transactional || entry.wait?.discarded;
      if (isGone) this.outcomes.delete(entry.id);
      else if (entry.stored) this.outcomes.set(entry.id, { kind: "end", entry });
      this.#remove(entry);
      this.#letGo(entry);
    }
    this.#over(entry);
  }

  /**
   * An attempt has failed, or needs a newer worker. The handler is called again when the entry is
   * due.
   */
  retry(
    entry: Entry,
    attempts: number,
    due: number,
    error: string,
    state: "failed" | "newer" = "failed",
  ): void {
    change(entry).attempts = attempts;
    if (entry.wait !== undefined) {
      const row = changeRow(entry.wait);
      row.again = false;
      row.extraUntil = undefined;
    }
    this.#store(entry, state, due, error);
    this.queue.wait(entry, due);
    change(entry).startedAt = 0;
  }

  /** An entry is given up, and becomes a dead letter. */
  bury(entry: Entry, attempts: number, error: string): void {
    const changing = change(entry);
    changing.attempts = attempts;
    changing.phase = "settled";
    this.outcomes.set(entry.id, { kind: "dead", entry, error });
    this.#remove(entry);
    this.#letGo(entry);
    this.#over(entry);
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
    for (const other of this.waiting.values()) {
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
    this.#store(entry, "running", now, null);
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
    for (const entry of this.queue.heldBack()) {
      const held = this.#partitions.get(entry.partition);
      if (held === undefined || held.halted !== undefined || isOver(entry)) continue;
      if (!entry.stored) {
        // With "block" the position passes nothing that is not handled.
        if (this.#options.block || held.waiting + this.queue.countBehind(entry) >= most) {
          kept++;
          continue;
        }
        this.#store(entry, "behind", 0, null);
        this.queue.hold(entry);
      } else this.#letGo(entry);
    }
    return kept;
  }

  /** An entry is behind a waiting one of its lane. */
  follow(entry: Entry): void {
    // With "block", reading has stopped, and entries already read are dropped: see State.halt.
    if (!this.#options.block) this.#store(entry, "behind", 0, null);
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
    for (const [id, { entry }] of this.outcomes) {
      if (entry.partition === held.number) this.outcomes.delete(id);
    }
    for (const [id, entry] of this.waiting) {
      if (entry.partition === held.number) this.waiting.delete(id);
    }
  }

  /** Counts the bytes again after entries were dropped, because their rows are garbage. */
  countBytes(): void {
    const kept = new Set<Entry>([...this.running, ...this.waiting.values()]);
    for (const held of this.#partitions.values()) {
      for (const entry of held.entries()) if (entry.phase !== "dropped") kept.add(entry);
    }
    this.bytes = 0;
    for (const entry of kept) this.bytes += sizeOf(entry);
  }

  /** Gives an entry a row in hark.waiting, so that the position may pass it. */
  #store(
    entry: Entry,
    state: "failed" | "newer" | "behind" | "running",
    due: number,
    error: string | null,
  ): void {
    const held = this.#partitions.get(entry.partition);
    const changing = change(entry);
    if (!entry.stored) {
      changing.stored = true;
      changing.wait = waitingRow(false);
      this.waiting.set(entry.id, entry);
      if (held !== undefined) held.waiting++;
    }
    if (state !== "running") {
      changing.phase = "waiting";
      this.#letGo(entry);
    }
    this.outcomes.set(entry.id, { kind: "wait", entry, state, due, error });
    if (held === undefined || held.halted !== undefined) return;
    const holdsUp = state === "failed" || state === "newer";
    if (held.waiting >= this.#options.maxWaiting) this.#halt(held, "full");
    else if (this.#options.block && holdsUp) this.#halt(held, "blocked");
  }

  /** Ends the waiting of an entry, if it was waiting. */
  #remove(entry: Entry): void {
    if (!entry.stored) return;
    change(entry).stored = false;
    this.waiting.delete(entry.id);
    const held = this.#partitions.get(entry.partition);
    if (held === undefined) return;
    held.waiting--;
    const over = held.halted === "blocked" && held.waiting === 0 ||
      held.halted === "full" && held.waiting < this.#options.maxWaiting / 2;
    if (!over) return;
    held.halted = "unsure";
    this.dropAll(held, true);
  }

  /** Frees the memory of a notification that is handled, or will be read again. */
  #letGo(entry: Entry): void {
    if (entry.row === undefined) return;
    this.bytes -= sizeOf(entry);
    change(entry).row = undefined;
  }

  /** As before its handler was called. */
  #unbegin(entry: Entry): void {
    const changing = change(entry);
    changing.phase = entry.stored ? "waiting" : "ready";
    changing.startedAt = 0;
  }

  /** Nothing more is to come of an entry. The next of its lane may begin. */
  #over(entry: Entry): void {
    this.queue.end(entry);
    change(entry).startedAt = 0;
  }
}

type Changing<T> = { -readonly [Field in keyof T]: T[Field] };

function change(entry: Entry): Changing<Entry> {
  return entry;
}

function changeRow(row: WaitingRow): Changing<WaitingRow> {
  return row;
}
