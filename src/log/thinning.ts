/**
 * Keeps a failure that repeats from flooding standard error.
 *
 * @module
 */

/** After a record is printed, those that are alike are only counted, for this many ms. */
const rest = 10_000;
/** The most records of one group that are printed in one `rest`. */
const most = 20;
/** The most kinds of records, and the most groups, that are counted apart. */
const mostKinds = 200;

/** What is to be said besides a record that may be printed. */
export interface Admitted {
  /** How many like it were not printed since the last one that was. */
  readonly alike: number;
  /** How many of other kinds were not printed since. */
  readonly others: number;
}

/**
 * Decides which records are printed. The first of a kind is. Later ones are printed at the 10th,
 * 100th, and so on, and after each pause. No timer runs: one would keep tests from ending cleanly.
 */
export class Thinning<What> {
  readonly #kinds = new Map<
    string,
    { since: number; count: number; hidden: number; last: What | undefined }
  >();
  readonly #groups = new Map<string, { since: number; printed: number }>();
  #others = 0;

  /**
   * Counts a record. Undefined if it must not be printed now.
   *
   * @param group What is the same for records that differ in their reason alone.
   * @param kind What is the same for records that say the same.
   */
  admit(group: string, kind: string, now: number, what: What): Admitted | undefined {
    let known = this.#kinds.get(kind);
    if (known === undefined) {
      known = { since: -Infinity, count: 0, hidden: 0, last: undefined };
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
      known.hidden++;
      known.last = what;
      return undefined;
    }
    if (period.printed >= most) {
      this.#others++;
      return undefined;
    }
    period.printed++;
    const admitted = { alike: known.hidden, others: this.#others };
    known.hidden = this.#others = 0;
    known.last = undefined;
    return admitted;
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
   * What was not printed since: the last record of each kind, how many more like it, and how many
   * others that are not known any more.
   */
  takeHidden(): { readonly last: readonly [what: What, alike: number][]; readonly others: number } {
    const last: [What, number][] = [];
    for (const known of this.#kinds.values()) {
      if (known.hidden > 0) last.push([known.last!, known.hidden - 1]);
      known.hidden = 0;
      known.last = undefined;
    }
    const others = this.#others;
    this.#others = 0;
    return { last, others };
  }

  /** Forgets the oldest kind, but not how many of it were not printed. */
  #forget(): void {
    const [kind, { hidden }] = this.#kinds.entries().next().value!;
    this.#kinds.delete(kind);
    this.#others += hidden;
  }
}

function isPowerOfTen(count: number): boolean {
  return /^10*$/.test(String(count));
}
