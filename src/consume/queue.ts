/**
 * What is to be handled next: in the order read, one at a time for a key, and later what failed.
 *
 * @module
 */

import { Agenda, Fifo } from "./fifo.ts";
import type { LogRow } from "./notification.ts";

/** A notification on its way through a worker. */
export interface Entry {
  readonly id: number;
  /** The partition it belongs to. */
  readonly partition: number;
  /** What it must keep its order in: entries of one lane are handled one after the other. */
  readonly lane: string | undefined;
  readonly key: string | null;
  /** The notification; undefined while it waits, and is then read again when its turn comes. */
  row: LogRow | undefined;
  /** The position after the page it came with; undefined for one that was waiting already. */
  readonly page: string | undefined;
  /** How many attempts have failed. */
  attempts: number;
  /** Whether the position may pass it: handled, given up, or waiting. */
  settled: boolean;
  /** Whether it is, or is about to be, a row of hark.waiting. */
  parked: boolean;
  /** When its handler was called; 0 while none is. */
  startedAt: number;
  /** Whether its partition is no longer served by this worker. */
  dropped: boolean;
  /** Whether it is handled with nothing beside it, as it may be what ended the last worker. */
  readonly alone: boolean;
  readonly isReplay: boolean;
}

interface Lane {
  /** Runs, is ready to, or waits to be tried again; the others come after it. */
  head: Entry;
  readonly queue: Fifo<Entry>;
}

/** Orders the entries of one worker. Knows nothing of time but what it is told. */
export class Queue {
  readonly #lanes = new Map<string, Lane>();
  readonly #ready = new Fifo<Entry>();
  /** Had to be read again, and come before those that are ready, which are younger. */
  readonly #loaded = new Fifo<Entry>();
  readonly #loading = new Fifo<Entry>();
  readonly #waiting = new Agenda<Entry>();
  /** Was looked at, and is the next to be taken. */
  #next: Entry | undefined;
  readonly #serial: boolean;
  readonly #follow: (entry: Entry) => void;

  /**
   * @param serial Whether one entry at a time is taken: then only those that wait need lanes.
   * @param follow Called for an entry that comes to wait behind a waiting one of its lane.
   */
  constructor(serial: boolean, follow: (entry: Entry) => void) {
    this.#serial = serial;
    this.#follow = follow;
  }

  /** When the next that waits is due, in the time given to {@linkcode Queue.wait}. */
  get nextDue(): number {
    return this.#waiting.next;
  }

  /** Whether entries must be read again before they can be taken. */
  get wantsLoading(): boolean {
    return this.#loading.size > 0;
  }

  /** How many have been read again and not been taken yet. */
  get loadedCount(): number {
    return this.#loaded.size;
  }

  /** Whether anything could be taken now. */
  get hasReady(): boolean {
    return this.#next !== undefined || this.#ready.size > 0 || this.#loaded.size > 0;
  }

  /** Takes in an entry that was read from the log. */
  add(entry: Entry): void {
    // Taken one at a time, those of a lane that waits are put behind it when their turn comes: others of it may
    // still be ready before this one.
    if (entry.lane === undefined || this.#serial) {
      this.#ready.push(entry);
      return;
    }
    const lane = this.#lanes.get(entry.lane);
    if (lane !== undefined) this.#goBehind(entry, lane);
    else {
      this.#lanes.set(entry.lane, { head: entry, queue: new Fifo() });
      this.#ready.push(entry);
    }
  }

  /** Takes in an entry that was found waiting; they come in order of their ids. */
  addWaiting(entry: Entry, due: number): void {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    if (lane !== undefined) {
      lane.queue.push(entry);
      return;
    }
    if (entry.lane !== undefined) {
      this.#lanes.set(entry.lane, { head: entry, queue: new Fifo() });
    }
    this.#waiting.add(due, entry);
  }

  #goBehind(entry: Entry, lane: Lane): void {
    lane.queue.push(entry);
    if (lane.head.parked && !entry.parked) this.#follow(entry);
  }

  /** Takes the next entry to handle. */
  take(): Entry | undefined {
    if (this.#next !== undefined) {
      const next = this.#next;
      this.#next = undefined;
      return next;
    }
    for (;;) {
      const entry = this.#loaded.shift() ?? this.#ready.shift();
      if (entry === undefined) return undefined;
      if (entry.dropped) continue;
      if (this.#serial && entry.lane !== undefined && this.#lanes.size > 0) {
        const lane = this.#lanes.get(entry.lane);
        if (lane !== undefined && lane.head !== entry) {
          this.#goBehind(entry, lane);
          continue;
        }
      }
      if (entry.row === undefined) this.#loading.push(entry);
      else return entry;
    }
  }

  /** Looks at the next entry to handle. */
  peek(): Entry | undefined {
    return this.#next ??= this.take();
  }

  /** Takes up to so many of those behind an entry in its lane, for the same batch. */
  takeBehind(entry: Entry, most: number): Entry[] {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    const taken: Entry[] = [];
    while (lane !== undefined && taken.length < most) {
      const next = lane.queue.peek();
      if (next?.dropped) {
        lane.queue.shift();
        continue;
      }
      if (
        next === undefined || next.row === undefined || next.alone || next.attempts > 0 ||
        next.row.payload === null
      ) {
        break;
      }
      taken.push(lane.queue.shift()!);
    }
    return taken;
  }

  /** Gives back what {@linkcode Queue.takeBehind} took, before what came of each is told. */
  putBehind(entries: readonly Entry[]): void {
    for (const entry of entries.toReversed()) {
      this.#lanes.get(entry.lane!)?.queue.unshift([entry]);
    }
  }

  /** An entry is over, handled or given up: the next of its lane may come. */
  end(entry: Entry): void {
    // Taken one at a time, there seldom is any: a look at it takes the key's hash.
    if (entry.lane === undefined || this.#lanes.size === 0) return;
    const lane = this.#lanes.get(entry.lane);
    if (lane === undefined || lane.head !== entry) return;
    let next = lane.queue.shift();
    while (next !== undefined && (next.dropped || next.settled && !next.parked)) {
      next = lane.queue.shift();
    }
    if (next === undefined) this.#lanes.delete(entry.lane);
    else {
      lane.head = next;
      if (next.startedAt > 0) return; // of the same batch: what came of it is told next
      if (next.row === undefined) this.#loading.push(next);
      else this.#ready.push(next);
    }
  }

  /** Whether an entry has to come after another one of its lane. */
  isBehind(entry: Entry): boolean {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    return lane !== undefined && lane.head !== entry;
  }

  /**
   * Of a batch: whether an entry has to come again after another one of its lane. It then does, and nothing more
   * is to be told of it.
   */
  comesAgain(entry: Entry): boolean {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    if (lane === undefined || lane.head === entry) return false;
    if (this.#serial && !entry.parked) this.#goBehind(entry, lane);
    return true;
  }

  /** An entry has failed and waits until `due`; those of its lane wait behind it. */
  wait(entry: Entry, due: number): void {
    this.#waiting.add(due, entry);
    this.park(entry);
  }

  /** An entry's place is taken by a row of hark.waiting, and so are those behind it in its lane. */
  park(entry: Entry): void {
    if (entry.lane === undefined) return;
    let lane = this.#lanes.get(entry.lane);
    if (lane === undefined) {
      lane = { head: entry, queue: new Fifo() };
      this.#lanes.set(entry.lane, lane);
    } else if (lane.head !== entry) {
      if (this.#serial) this.#goBehind(entry, lane);
      else if (lane.head.parked && !entry.parked) this.#follow(entry);
      return;
    }
    for (const follower of [...lane.queue]) {
      if (!follower.parked && !follower.dropped) this.#follow(follower);
    }
  }

  /** Moves what is due to what is to be read again. @returns whether anything was. */
  wake(now: number): boolean {
    let woken = false;
    for (let entry; (entry = this.#waiting.take(now)) !== undefined; woken = true) {
      if (!entry.dropped) this.#loading.push(entry);
    }
    return woken;
  }

  /** Takes up to so many of those to be read again. */
  takeLoading(most: number): Entry[] {
    const taken: Entry[] = [];
    for (let entry; taken.length < most && (entry = this.#loading.shift()) !== undefined;) {
      if (!entry.dropped) taken.push(entry);
    }
    return taken;
  }

  /** Takes back entries that could not be read again. */
  notLoaded(entries: readonly Entry[]): void {
    this.#loading.unshift(entries);
  }

  /** Takes in entries that have been read again. */
  loaded(entries: readonly Entry[]): void {
    for (const entry of entries) this.#loaded.push(entry);
  }

  /** Takes back what was handed out, to be handed out before all that is ready, which is younger. */
  putBack(entries: readonly Entry[]): void {
    const next = this.#next === undefined ? [] : [this.#next];
    this.#next = undefined;
    this.#loaded.unshift([...entries, ...next]);
  }

  /** Removes the entries of partitions; those that run are only told by `dropped`. */
  drop(ofPartition: (partition: number) => boolean, andWaiting: boolean): void {
    const kept = (entry: Entry) => {
      if (!ofPartition(entry.partition) || entry.parked && !andWaiting) return true;
      entry.dropped = true;
      return false;
    };
    if (this.#next !== undefined && !kept(this.#next)) this.#next = undefined;
    this.#ready.keep(kept);
    this.#loaded.keep(kept);
    this.#loading.keep(kept);
    this.#waiting.keep(kept);
    for (const [name, lane] of this.#lanes) {
      lane.queue.keep(kept);
      // One that runs keeps its lane, so that nothing of its key begins beside it.
      if (lane.head.dropped && lane.head.startedAt === 0) this.#lanes.delete(name);
    }
  }
}
