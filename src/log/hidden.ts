/**
 * The records of one kind that were not printed, and the notifications that they are about.
 *
 * @module
 */

/** The most notifications of one kind of record that are counted apart. */
const mostIds = 500;
/** The most records of one kind that are kept, to print one of them later. */
const mostKept = 20;

/** Records that were not printed. */
export interface Left {
  /** How many records. */
  readonly count: number;
  /** The notifications that they are about, in ascending order. Empty if they are about none. */
  readonly ids: readonly number[];
  /** Whether they are about more notifications than `ids` names. */
  readonly andOthers: boolean;
}

/** Counts the records of one kind that were not printed. */
export class Hidden<What> {
  #count = 0;
  #last: What | undefined;
  readonly #about = new Map<number, { count: number; what: What | undefined }>();
  #kept = 0;
  #isFull = false;

  /** How many records there are. */
  get count(): number {
    return this.#count;
  }

  /** @param id The notification that the record is about. */
  add(what: What, id: number | undefined): void {
    this.#count++;
    if (id === undefined) {
      this.#last = what;
      return;
    }
    const known = this.#about.get(id);
    if (known === undefined && this.#about.size >= mostIds) {
      this.#isFull = true;
      return;
    }
    const isKept = known?.what !== undefined || this.#kept < mostKept;
    if (isKept && known?.what === undefined) this.#kept++;
    this.#about.delete(id); // the last one comes last
    this.#about.set(id, { count: (known?.count ?? 0) + 1, what: isKept ? what : undefined });
  }

  /** A notification is settled: what was said about it is no longer of use. */
  forget(id: number): void {
    const known = this.#about.get(id);
    if (known === undefined) return;
    this.#about.delete(id);
    this.#count -= known.count;
    if (known.what !== undefined) this.#kept--;
  }

  /** What was hidden; nothing is afterwards. */
  take(): Left {
    const left = {
      count: this.#count,
      ids: [...this.#about.keys()].sort((a, b) => a - b),
      andOthers: this.#isFull,
    };
    this.#about.clear();
    this.#last = undefined;
    this.#count = this.#kept = 0;
    this.#isFull = false;
    return left;
  }

  /** The last record that is kept, and what was hidden besides. */
  takeLast(): { readonly what: What | undefined; readonly besides: Left } {
    let what = this.#last;
    for (const [id, known] of [...this.#about].reverse()) {
      if (what !== undefined || known.what === undefined) continue;
      what = known.what;
      known.count--;
      this.#count--;
      if (known.count === 0) this.#about.delete(id);
      return { what, besides: this.take() };
    }
    if (what !== undefined) this.#count--;
    return { what, besides: this.take() };
  }
}
