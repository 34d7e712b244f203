/**
 * The order in which entries are handled: as read, one at a time for a key. Failed entries come
 * later.
 *
 * @module
 */

import { type Entry, isOver, nextAttempt } from "./entry.ts";
import { Agenda, Fifo } from "./fifo.ts";
import { Arrival, type Ready } from "./ready.ts";

interface Lane {
  /** The entry that runs, is ready, or waits for its retry. The others come after it. */
  head: Entry;
  readonly queue: Fifo<Entry>;
}

/**
 * Orders the entries of one worker. This class reads no clock: callers pass the time. Only what is
 * ready may know limits, and with them the time.
 */
export class KeyQueue {
  readonly ready: Ready;
  readonly #lanes = new Map<string, Lane>();
  readonly #loading = new Fifo<Entry>();
  readonly #waiting = new Agenda<Entry>();
  /** An entry that was looked at, and is taken next. */
  #next: Entry | undefined;
  readonly #serial: boolean;
  readonly #follow: (entry: Entry) => void;

  /**
   * @param serial Whether one entry at a time is taken. Then all are taken in the order read, and
   *   only waiting entries need lanes.
   * @param follow Called for an entry that must wait behind a waiting one of its lane.
   * @param ready In which order ready entries are taken.
   */
  constructor(serial: boolean, follow: (entry: Entry) => void, ready: Ready = new Arrival()) {
    this.#serial = serial;
    this.#follow = follow;
    this.ready = ready;
  }

  /**
   * When the next waiting entry is due, or the next one that a limit holds back, by the clock of
   * {@linkcode KeyQueue.wait}.
   */
  get nextDue(): number {
    return Math.min(this.#waiting.next, this.ready.nextDue);
  }

  /** Whether entries must be read again before they can be taken. */
  get wantsLoading(): boolean {
    return this.#loading.size > 0;
  }

  /** Whether a rate holds back an entry. */
  get isHeldBack(): boolean {
    return this.ready.nextDue < Infinity;
  }

  /** Whether an entry could be taken now. */
  get hasReady(): boolean {
    return this.#next !== undefined || this.ready.hasReady;
  }

  /** Adds an entry that was read from the log. */
  add(entry: Entry): void {
    // In serial mode, an entry of a waiting lane is put behind it only when its turn comes. Others
    // of the lane may still be ready before this one.
    if (entry.lane === undefined || this.#serial) {
      this.ready.add(entry);
      return;
    }
    const lane = this.#lanes.get(entry.lane);
    if (lane !== undefined) this.#goBehind(entry, lane);
    else {
      this.#lanes.set(entry.lane, { head: entry, queue: new Fifo() });
      this.ready.add(entry);
    }
  }

  /** Adds an entry that was found waiting. Such entries must be added in order of their ids. */
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
    if (lane.head.stored && !entry.stored) this.#follow(entry);
  }

  /** Takes the next entry to handle. */
  take(): Entry | undefined {
    const next = this.#next;
    this.#next = undefined;
    if (next !== undefined) return next;
    for (let entry; (entry = this.ready.take()) !== undefined;) {
      if (isOver(entry)) continue;
      if (this.#serial && entry.lane !== undefined && this.#lanes.size > 0) {
        const lane = this.#lanes.get(entry.lane);
        if (lane !== undefined && lane.head !== entry) {
          this.#goBehind(entry, lane);
          continue;
        }
      }
      if (entry.row !== undefined) return entry;
      this.#loading.push(entry);
    }
    return undefined;
  }

  /** Returns the next entry to handle without taking it. */
  peek(): Entry | undefined {
    return this.#next ??= this.take();
  }

  /** Takes up to `most` entries behind an entry in its lane, for the same batch. */
  takeBehind(entry: Entry, most: number): Entry[] {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    const taken: Entry[] = [];
    while (lane !== undefined && taken.length < most) {
      const next = lane.queue.peek();
      if (next !== undefined && isOver(next)) {
        lane.queue.shift();
        continue;
      }
      if (
        next === undefined || next.row === undefined || next.alone || nextAttempt(next) > 1 ||
        next.row.payload === null
      ) {
        break;
      }
      taken.push(lane.queue.shift()!);
    }
    return taken;
  }

  /** Puts back what {@linkcode KeyQueue.takeBehind} took, before the result of each is told. */
  putBehind(entries: readonly Entry[]): void {
    for (const entry of entries.toReversed()) {
      this.#lanes.get(entry.lane!)?.queue.unshift([entry]);
    }
  }

  /** Ends an entry that is handled or given up. The next of its lane may then be taken. */
  end(entry: Entry): void {
    if (this.#next === entry) this.#next = undefined;
    this.ready.release(entry);
    // In serial mode lanes are rare, and looking one up hashes the key.
    if (entry.lane === undefined || this.#lanes.size === 0) return;
    const lane = this.#lanes.get(entry.lane);
    if (lane?.head === entry) this.#advance(entry.lane, lane);
  }

  /** The next entry of a lane becomes its head. */
  #advance(name: string, lane: Lane): void {
    let next = lane.queue.shift();
    while (next !== undefined && isOver(next)) next = lane.queue.shift();
    if (next === undefined) this.#lanes.delete(name);
    else {
      lane.head = next;
      if (next.stored) this.#followAll(lane);
      if (next.startedAt > 0) return; // of the same batch: its result is told next
      if (next.row === undefined) this.#loading.push(next);
      else this.ready.add(next);
    }
  }

  /** Whether an entry has to come after another one of its lane. */
  isBehind(entry: Entry): boolean {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    return lane !== undefined && lane.head !== entry;
  }

  /** Puts an entry of a batch behind another one of its lane again. See {@linkcode KeyQueue.isBehind}. */
  comeBehind(entry: Entry): void {
    // Otherwise `putBehind` has done so.
    if (this.#serial && !entry.stored) this.#goBehind(entry, this.#lanes.get(entry.lane!)!);
  }

  /** Makes a failed entry wait until `due`. The entries of its lane wait behind it. */
  wait(entry: Entry, due: number): void {
    this.ready.release(entry);
    this.#waiting.add(due, entry);
    this.hold(entry);
  }

  /** A row of hark.waiting replaces an entry. Entries behind it in its lane get rows too. */
  hold(entry: Entry): void {
    if (entry.lane === undefined) return;
    let lane = this.#lanes.get(entry.lane);
    if (lane === undefined) {
      lane = { head: entry, queue: new Fifo() };
      this.#lanes.set(entry.lane, lane);
    } else if (lane.head !== entry) {
      if (this.#serial) this.#goBehind(entry, lane);
      else if (lane.head.stored && !entry.stored) this.#follow(entry);
      return;
    }
    this.#followAll(lane);
  }

  /**
   * What is behind a waiting entry waits too. Otherwise a partition in which too many wait would drop
   * it, although later entries of its lane stay.
   */
  #followAll({ queue }: Lane): void {
    for (const entry of [...queue]) {
      if (!entry.stored && !isOver(entry)) this.#follow(entry);
    }
  }

  /** Moves due entries to those that are to be read again. Returns whether any was due. */
  wake(now: number): boolean {
    this.ready.wake();
    let woken = false;
    for (let entry; (entry = this.#waiting.take(now)) !== undefined; woken = true) {
      if (!isOver(entry)) this.#loading.push(entry);
    }
    return woken;
  }

  /** Makes waiting entries due now. Entries that are behind another of their lane stay there. */
  hurry(chosen: ReadonlySet<Entry>): void {
    const due: Entry[] = [];
    this.#waiting.keep((entry) => {
      if (!chosen.has(entry)) return true;
      due.push(entry);
      return false;
    });
    for (const entry of due.sort((a, b) => a.id - b.id)) {
      if (!isOver(entry)) this.#loading.push(entry);
    }
  }

  /** Takes up to `most` entries that are to be read again. */
  takeLoading(most: number): Entry[] {
    const taken: Entry[] = [];
    for (let entry; taken.length < most && (entry = this.#loading.shift()) !== undefined;) {
      if (!isOver(entry)) taken.push(entry);
    }
    return taken;
  }

  /** Takes back entries that could not be read again. */
  notLoaded(entries: readonly Entry[]): void {
    this.#loading.unshift(entries);
  }

  /** Adds entries that have been read again. */
  loaded(entries: readonly Entry[]): void {
    for (const entry of entries) this.ready.addLoaded(entry);
  }

  /**
   * Takes back entries that were handed out. They are handed out before all ready entries, which
   * are younger.
   */
  putBack(entries: readonly Entry[]): void {
    const next = this.#next === undefined ? [] : [this.#next];
    this.#next = undefined;
    // Their handlers may have begun, so that they use up their share once more.
    for (const entry of entries) this.ready.release(entry);
    this.ready.putBack([...entries, ...next]);
  }

  /** Removes the entries that `drops` has dropped. A running one keeps its lane. */
  drop(drops: (entry: Entry) => boolean): void {
    const kept = (entry: Entry) => !drops(entry);
    if (this.#next !== undefined && !kept(this.#next)) this.#next = undefined;
    this.ready.keep(kept);
    this.#loading.keep(kept);
    this.#waiting.keep(kept);
    for (const [name, lane] of this.#lanes) {
      lane.queue.keep(kept);
      // A running entry keeps its lane, so that no other handler of its key starts beside it. What
      // waits behind a dropped one stays: a retried dead letter, or one to be replayed.
      if (lane.head.phase === "dropped" && lane.head.startedAt === 0) this.#advance(name, lane);
    }
    this.ready.prune();
  }

  /** How many entries are behind an entry in its lane. */
  countBehind(entry: Entry): number {
    const lane = entry.lane === undefined ? undefined : this.#lanes.get(entry.lane);
    return lane?.head === entry ? lane.queue.size : 0;
  }
}
