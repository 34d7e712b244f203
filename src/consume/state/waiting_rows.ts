/**
 * Which entries have a row in hark.waiting, and what is to be stored of them. A partition in which too
 * many wait is halted, and released once few do.
 *
 * @module
 */

import type { CheckedOptions } from "./context.ts";
import { change, changeRow, type Entry, type Outcome, waitingRow } from "./entry.ts";
import type { OwnedPartition } from "./partition.ts";

/** Halts a partition. */
export type Halt = (held: OwnedPartition, why: "blocked" | "full") => void;

/** Why an entry waits, and until when. */
export type Wait = Pick<Extract<Outcome, { kind: "wait" }>, "state" | "due" | "error">;

/** The rows of hark.waiting that one worker has to do with. */
export class WaitingRows {
  /** Outcomes that are not known to be stored yet. */
  readonly outcomes = new Map<number, Outcome>();
  /** Entries that have, or are about to have, a row. */
  readonly waiting = new Map<number, Entry>();
  readonly #options: CheckedOptions;
  readonly #partitions: ReadonlyMap<number, OwnedPartition>;
  readonly #halt: Halt;
  readonly #release: (held: OwnedPartition) => void;

  /**
   * @param halt Called for a partition in which no more may wait.
   * @param release Called for a partition that need not be halted any more.
   */
  constructor(
    options: CheckedOptions,
    partitions: ReadonlyMap<number, OwnedPartition>,
    halt: Halt,
    release: (held: OwnedPartition) => void,
  ) {
    this.#options = options;
    this.#partitions = partitions;
    this.#halt = halt;
    this.#release = release;
  }

  /** An entry was made of a row. */
  add(entry: Entry, held: OwnedPartition): void {
    this.waiting.set(entry.id, entry);
    held.waiting++;
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

  /** The row of an entry is gone while its handler runs: that is left to the handler's result. */
  discard({ wait }: Entry): void {
    changeRow(wait!).discarded = true;
  }

  /** An attempt has failed: what was asked for before it is done. */
  attempted({ wait }: Entry): void {
    if (wait === undefined) return;
    const row = changeRow(wait);
    row.again = false;
    row.extraUntil = undefined;
  }

  /** Gives an entry a row, so that the position may pass it. */
  store(entry: Entry, { state, due, error }: Wait): void {
    const held = this.#partitions.get(entry.partition);
    const changing = change(entry);
    if (!entry.stored) {
      changing.stored = true;
      changing.wait = waitingRow(false);
      this.waiting.set(entry.id, entry);
      if (held !== undefined) held.waiting++;
    }
    if (state !== "running") changing.phase = "waiting";
    this.outcomes.set(entry.id, { kind: "wait", entry, state, due, error });
    if (held === undefined || held.halted !== undefined) return;
    const holdsUp = state === "failed" || state === "newer";
    if (held.waiting >= this.#options.maxWaiting) this.#halt(held, "full");
    else if (this.#options.block && holdsUp) this.#halt(held, "blocked");
  }

  /** Has it stored that an entry is settled. */
  tell(outcome: Extract<Outcome, { kind: "end" | "dead" }>): void {
    change(outcome.entry).told = true;
    this.outcomes.set(outcome.entry.id, outcome);
  }

  /** Ends the waiting of an entry that has a row. */
  remove(entry: Entry): void {
    change(entry).stored = false;
    this.waiting.delete(entry.id);
    const held = this.#partitions.get(entry.partition);
    if (held === undefined) return;
    held.waiting--;
    const over = held.halted === "blocked" && held.waiting === 0 ||
      held.halted === "full" && held.waiting < this.#options.maxWaiting / 2;
    if (over) this.#release(held);
  }

  /** Forgets the rows of a lost partition. */
  forget({ number }: OwnedPartition): void {
    for (const [id, { entry }] of this.outcomes) {
      if (entry.partition === number) this.outcomes.delete(id);
    }
    for (const [id, entry] of this.waiting) {
      if (entry.partition === number) this.waiting.delete(id);
    }
  }
}
