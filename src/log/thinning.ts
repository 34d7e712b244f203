/**
 * Keeps a failure that repeats from flooding standard error.
 *
 * @module
 */

import { Hidden, type Left } from "./hidden.ts";

/** After a record is printed, those that are alike are only counted, for this many ms. */
const rest = 10_000;
/** The most records of one group that are printed in one `rest`. */
const most = 20;
/** The most kinds of records, and the most groups, that are counted apart. */
const mostKinds = 200;

/** What is to be said besides a record that may be printed. */
export interface Admitted {
  /** Those like it that were not printed since the last one that was. */
  readonly alike: Left;
  /** How many of other kinds were not printed since. */
  readonly others: number;
}

/** What is the same for records that belong together. */
export interface Keys {
  /** What is the same for records that differ in their reason alone. */
  readonly group: string;
  /** What is the same for records that say the same. */
  readonly kind: string;
  /** Whose notification a record is about. */
  readonly consumer: unknown;
  /** The id of that notification. */
  readonly id: number | undefined;
}

interface Kind<What> {
  since: number;
  count: number;
  readonly consumer: unknown;
  readonly hidden: Hidden<What>;
}

/**
 * Decides which records are printed. The first of a kind is. Later ones are printed at the 10th,
 * 100th, and so on, and after each pause. No timer runs: one would keep tests from ending cleanly.
 */
export class Thinning<What> {
  readonly #kinds = new Map<string, Kind<What>>();
  readonly #groups = new Map<string, { since: number; printed: number }>();
  #others = 0;

  /** Counts a record. Undefined if it must not be printed now. */
  admit({ group, kind, consumer, id }: Keys, now: number, what: What): Admitted | undefined {
    let known = this.#kinds.get(kind);
    if (known === undefined) {
      known = { since: -Infinity, count: 0, consumer, hidden: new Hidden() };
      this.#kinds.set(kind, known);
      if (this.#kinds.size > mostKinds) this.#forget();
    }
    if (now - known.since >= rest) {
      known.since = now;
      known.count = 0;
    }
    known.count++;
    const period = this.#periodOf(group, now);
    if (!isPowerOfTen(known.count)) {
      known.hidden.add(what, id);
      return undefined;
    }
    if (period.printed >= most) {
      this.#others++;
      return undefined;
    }
    period.printed++;
    const admitted = { alike: known.hidden.take(), others: this.#others };
    this.#others = 0;
    return admitted;
  }

  /** A notification is settled: what was not printed about it is not told later. */
  settled(consumer: unknown, id: number): void {
    for (const known of this.#kinds.values()) {
      if (known.hidden.count > 0 && known.consumer === consumer) known.hidden.forget(id);
    }
  }

  #periodOf(group: string, now: number): { since: number; printed: number } {
    let period = this.#groups.get(group);
    if (period === undefined || now - period.since >= rest) {
      period = { since: now, printed: 0 };
      this.#groups.delete(group);
      this.#groups.set(group, period);
      if (this.#groups.size > mostKinds) {
        this.#groups.delete(this.#groups.keys().next().value!);
      }
    }
    return period;
  }

  /**
   * What was not printed since: the last record of each kind, those like it, and how many others
   * that are not known any more.
   */
  takeHidden(): { readonly last: readonly [what: What, alike: Left][]; readonly others: number } {
    const last: [What, Left][] = [];
    for (const { hidden } of this.#kinds.values()) {
      if (hidden.count === 0) continue;
      const { what, besides } = hidden.takeLast();
      if (what === undefined) this.#others += besides.count;
      else last.push([what, besides]);
    }
    const others = this.#others;
    this.#others = 0;
    return { last, others };
  }

  /** Forgets the oldest kind, but not how many of it were not printed. */
  #forget(): void {
    const [kind, { hidden }] = this.#kinds.entries().next().value!;
    this.#kinds.delete(kind);
    this.#others += hidden.count;
  }
}

function isPowerOfTen(count: number): boolean {
  return /^10*$/.test(String(count));
}
