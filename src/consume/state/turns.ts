/**
 * Entries that are ready, taken from their groups in turn, within limits. A group is a key, or what
 * the option `limits.by` makes of a notification, such as a tenant.
 *
 * @module
 */

import { Bucket, type CheckedRate } from "./bucket.ts";
import { type Entry, isOver } from "./entry.ts";
import { Agenda, Fifo } from "./fifo.ts";
import type { Ready } from "./ready.ts";

/** The option `limits`, checked and complete. */
export interface CheckedLimits {
  /** The most handlers of a group at a time. */
  readonly concurrency: number;
  readonly perGroup: CheckedRate | undefined;
  readonly rate: CheckedRate | undefined;
  /** The group of an entry that is in memory. Undefined for none, which has no limits of a group. */
  readonly groupOf: (entry: Entry) => string | undefined;
  /** Milliseconds. */
  readonly clock: () => number;
}

interface Group {
  readonly isLimited: boolean;
  readonly loaded: Fifo<Entry>;
  readonly ready: Fifo<Entry>;
  /** Entries that were taken and not released. They have used up their share of the limits. */
  readonly out: Set<Entry>;
  /** Entries that were set aside and are being read again. */
  readonly loading: Set<Entry>;
  readonly bucket: Bucket | undefined;
  /**
   * Where the group is: among those whose turn comes, waiting for a token, waiting for the end of one
   * of its handlers, waiting for entries that are read again, or without an entry.
   */
  place: "ring" | "token" | "end" | "loading" | "idle";
}

/**
 * An entry with its group. On the entry, and not in a map of all: a map costs more than everything else
 * that a turn takes.
 */
interface Grouped extends Entry {
  group: Group | undefined;
}

/** How many entries of a group are read again at a time. Entries that cannot be taken use memory. */
const loadedAtOnce = 10;
/** How many groups there are at least before those that are of no use are forgotten. */
const fewGroups = 1000;

/** Takes one entry of each group after the other. */
export class Turns implements Ready {
  readonly #limits: CheckedLimits;
  readonly #groups = new Map<string | undefined, Group>();
  /** The groups whose turn comes. */
  readonly #ring = new Fifo<Group>();
  readonly #tokens = new Agenda<Group>();
  readonly #bucket: Bucket | undefined;
  /** Until when no entry of any group may be taken. */
  #closedUntil = -Infinity;
  #sweepAt = fewGroups;

  constructor(limits: CheckedLimits) {
    this.#limits = limits;
    this.#bucket = limits.rate && new Bucket(limits.rate, limits.clock());
  }

  /** How many groups are known. */
  get groupCount(): number {
    return this.#groups.size;
  }

  get hasReady(): boolean {
    return this.#ring.size > 0 && this.#closedUntil === -Infinity;
  }

  get loadedCount(): number {
    if (!this.hasReady) return 0;
    let count = 0;
    for (const { loaded } of this.#ring) count += loaded.size;
    return count;
  }

  get nextDue(): number {
    const closed = this.#closedUntil === -Infinity ? Infinity : this.#closedUntil;
    return Math.min(this.#tokens.next, this.#ring.size === 0 ? Infinity : closed);
  }

  add(entry: Entry): void {
    const group = this.#find(entry);
    group.ready.push(entry);
    this.#arrive(group);
  }

  addLoaded(entry: Entry): void {
    const group = this.#find(entry);
    group.loading.delete(entry);
    group.loaded.push(entry);
    if (group.place === "loading") group.place = "idle";
    this.#arrive(group);
  }

  putBack(entries: readonly Entry[]): void {
    for (const entry of entries.toReversed()) {
      const group = this.#find(entry);
      if (group.out.has(entry)) {
        this.#first(entry, group);
        continue;
      }
      group.loaded.unshift([entry]);
      this.#arrive(group);
    }
  }

  /** An entry that has used up its share already need not wait, nor does its group for its sake. */
  #first(entry: Entry, group: Group): void {
    group.loaded.unshift([entry]);
    if (group.place === "ring") return;
    if (group.place === "token") this.#tokens.keep((one) => one !== group);
    group.place = "ring";
    this.#ring.unshift([group]);
  }

  /** Takes the next entry. One that is not in memory is to be read again and added once more. */
  take(): Entry | undefined {
    while (this.#closedUntil === -Infinity) {
      const group = this.#ring.shift();
      if (group === undefined) return undefined;
      const queue = group.loaded.size > 0 ? group.loaded : group.ready;
      const entry = queue.peek();
      if (entry === undefined || isOver(entry)) {
        queue.shift();
        this.#goOn(group);
        continue;
      }
      if (entry.row === undefined) {
        if (group.loading.size >= loadedAtOnce) {
          group.place = "loading";
          continue;
        }
        group.loading.add(entry);
      } else {
        if (!group.out.has(entry) && !this.#pays(group)) continue;
        group.out.add(entry);
      }
      queue.shift();
      this.#goOn(group);
      return entry;
    }
    return undefined;
  }

  /** Takes what an entry costs, or has its group wait. */
  #pays(group: Group): boolean {
    const { concurrency, clock } = this.#limits;
    if (group.isLimited && group.out.size >= concurrency) {
      group.place = "end";
      return false;
    }
    if (group.bucket === undefined && this.#bucket === undefined) return true;
    const now = clock();
    const wait = group.bucket?.wait(now) ?? 0;
    if (wait > 0) {
      group.place = "token";
      this.#tokens.add(now + wait, group);
      return false;
    }
    const all = this.#bucket?.wait(now) ?? 0;
    if (all > 0) {
      this.#closedUntil = now + all;
      this.#ring.unshift([group]);
      return false;
    }
    group.bucket?.spend();
    this.#bucket?.spend();
    return true;
  }

  /** The group has had its turn. */
  #goOn(group: Group): void {
    if (group.loaded.size + group.ready.size === 0) group.place = "idle";
    else this.#ring.push(group);
  }

  #arrive(group: Group): void {
    if (group.place !== "idle") return;
    group.place = "ring";
    this.#ring.push(group);
  }

  release(entry: Entry): void {
    const { group } = entry as Grouped;
    if (group === undefined) return;
    const place = group.out.delete(entry)
      ? "end"
      : group.loading.delete(entry)
      ? "loading"
      : undefined;
    if (group.place !== place) return;
    group.place = "idle";
    this.#arrive(group);
  }

  keep(kept: (entry: Entry) => boolean): void {
    for (const group of this.#groups.values()) {
      group.loaded.keep(kept);
      group.ready.keep(kept);
    }
  }

  prune(): void {
    for (const group of this.#groups.values()) {
      for (const entry of [...group.out, ...group.loading]) {
        // The handler of a dropped entry may still run beside the next one of its group.
        if (entry.phase === "dropped" && entry.startedAt === 0) this.release(entry);
      }
    }
  }

  wake(): void {
    if (this.#closedUntil === -Infinity && this.#tokens.size === 0) return;
    const now = this.#limits.clock();
    if (this.#closedUntil <= now) this.#closedUntil = -Infinity;
    for (let group; (group = this.#tokens.take(now)) !== undefined;) {
      group.place = "idle";
      this.#arrive(group);
    }
  }

  heldBack(): readonly Entry[] {
    const groups = [...this.#groups.values()].filter(({ place }) =>
      this.#closedUntil > -Infinity || place !== "ring" && place !== "idle"
    );
    return groups.flatMap(({ loaded, ready, out }) =>
      [...loaded, ...ready].filter((entry) => entry.row !== undefined && !out.has(entry))
    );
  }

  #find(one: Entry): Group {
    const entry = one as Grouped;
    if (entry.group !== undefined) return entry.group;
    const { groupOf, perGroup, clock } = this.#limits;
    const name = groupOf(entry);
    let group = this.#groups.get(name);
    if (group === undefined) {
      if (this.#groups.size >= this.#sweepAt) this.#sweep();
      const isLimited = name !== undefined;
      group = {
        isLimited,
        loaded: new Fifo(),
        ready: new Fifo(),
        out: new Set(),
        loading: new Set(),
        bucket: isLimited && perGroup !== undefined ? new Bucket(perGroup, clock()) : undefined,
        place: "idle",
      };
      this.#groups.set(name, group);
    }
    entry.group = group;
    return group;
  }

  /** Forgets groups without entries, except those whose bucket would be full again too early. */
  #sweep(): void {
    const now = this.#limits.clock();
    for (const [name, { place, out, loading, bucket }] of this.#groups) {
      if (place === "idle" && out.size + loading.size === 0 && bucket?.isFull(now) !== false) {
        this.#groups.delete(name);
      }
    }
    this.#sweepAt = Math.max(fewGroups, 2 * this.#groups.size);
  }
}
