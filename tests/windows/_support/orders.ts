/**
 * The orders in which actors can take their steps.
 *
 * @module
 */

export type Step =
  | "number"
  | "id"
  | "number and id"
  | "commit"
  | "snapshot"
  | "sequence"
  | "sequence and read"
  | "store and read";

/** What a step reads and changes. Steps of which none changes what the other reads or changes commute. */
const touches: Readonly<Record<Step, { readonly reads: string[]; readonly changes: string[] }>> = {
  /** Takes a transaction number. */
  number: { reads: ["numbers"], changes: ["numbers"] },
  /** Draws an id, in a transaction that has a number. */
  id: { reads: ["ids"], changes: ["ids"] },
  /** Takes a number and draws an id. */
  "number and id": { reads: ["numbers", "ids"], changes: ["numbers", "ids"] },
  /** Ends a transaction. Which of two ends first is seen only by what comes between. */
  commit: { reads: [], changes: ["ended"] },
  /** Takes the snapshot of a mark, and reads the mark that it is built upon. */
  snapshot: { reads: ["numbers", "ended", "marks"], changes: [] },
  /** Reads the last id drawn for a mark. */
  sequence: { reads: ["ids"], changes: [] },
  /** Reads that id for a private mark, and has the reader read to the mark. */
  "sequence and read": { reads: ["ids", "reader"], changes: ["reader"] },
  /** Takes the mark's number, stores it, ends its transaction, and has the reader read to the mark. */
  "store and read": {
    reads: ["numbers", "reader"],
    changes: ["numbers", "ended", "marks", "reader"],
  },
};

/** The steps of each actor, in the order in which it takes them. */
export type Actors = Readonly<Record<string, readonly Step[]>>;

function commute(one: Step, other: Step): boolean {
  const [a, b] = [touches[one], touches[other]];
  return !a.changes.some((what) => b.reads.includes(what)) &&
    !b.changes.some((what) => a.reads.includes(what));
}

/** Whether a run is to leave none of the orders out. */
export const isWhole = Deno.env.get("HARK_ORDERS") === "all";

/**
 * The orders, as the names of the actors. Of orders that differ by steps that commute alone, at least one.
 *
 * @param every Whether to give all of them instead.
 */
export function ordersOf(actors: Actors, every = false): string[][] {
  const names = Object.keys(actors);
  const found: string[][] = [];
  const go = (order: readonly string[], left: Actors) => {
    const last = order.at(-1);
    const before = last === undefined ? undefined : actors[last]!.at(-left[last]!.length - 1);
    let isOver = true;
    for (const [place, name] of names.entries()) {
      const [step, ...rest] = left[name]!;
      if (step === undefined) continue;
      isOver = false;
      const swapped = before !== undefined && names.indexOf(last!) > place;
      if (!every && swapped && commute(before, step)) continue;
      go([...order, name], { ...left, [name]: rest });
    }
    if (isOver) found.push([...order]);
  };
  go([], actors);
  return found;
}

/** The beginnings of orders, each once, the whole orders among them. */
export function beginningsOf(orders: readonly (readonly string[])[]): string[][] {
  const found = new Map<string, string[]>();
  for (const order of orders) {
    for (let length = 0; length <= order.length; length++) {
      const beginning = order.slice(0, length);
      found.set(beginning.join(), beginning);
    }
  }
  return [...found.values()];
}

/** So many of a list, chosen at random; all of it if a run is to leave none out. */
export function some<T>(list: readonly T[], count: number): T[] {
  if (isWhole) return [...list];
  const left = [...list];
  return Array.from(
    { length: Math.min(count, left.length) },
    () => left.splice(Math.floor(Math.random() * left.length), 1)[0]!,
  );
}
