/**
 * Keeps a failure that repeats from flooding standard error.
 *
 * @module
 */

/** After a record is printed, those that are alike are only counted, for this many ms. */
const rest = 10_000;
/** The most records printed in one `rest`. */
const most = 20;
/** The most kinds of records that are counted apart. */
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
export class Thinning {
  readonly #kinds = new Map<string, { since: number; count: number; hidden: number }>();
  #period = { since: -Infinity, printed: 0 };
  #others = 0;

  /** Counts a record. Undefined if it must not be printed. */
  admit(kind: string, now: number): Admitted | undefined {
    let known = this.#kinds.get(kind);
    if (known === undefined) {
      known = { since: -Infinity, count: 0, hidden: 0 };
      this.#kinds.set(kind, known);
      if (this.#kinds.size > mostKinds) this.#forget();
    }
    if (now - known.since >= rest) {
      known.since = now;
      known.count = 0;
    }
    known.count++;
    if (now - this.#period.since >= rest) this.#period = { since: now, printed: 0 };
    if (!isPowerOfTen(known.count)) {
      known.hidden++;
      return undefined;
    }
    if (this.#period.printed >= most) {
      this.#others++;
      return undefined;
    }
    this.#period.printed++;
    const admitted = { alike: known.hidden, others: this.#others };
    known.hidden = this.#others = 0;
    return admitted;
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
