/**
 * The messages of one partition that are in the target, or may be, and are not certainly stored as handled
 * in Hark. After a crash the next worker has to find them, so its look must begin before the first of them.
 *
 * The ids of notifications do not tell the order: one with a lower id may commit, and be published, later.
 *
 * @module
 */

import type { Entry } from "../consume/state/entry.ts";
import type { OwnedPartition } from "../consume/state/partition.ts";

interface Message {
  /** If the message is in the target, it lies behind this place. */
  readonly base: number;
  /** Whether a look has found it in the target. */
  isThere: boolean;
  /** The entry that was read from the log. Undefined for a message that was only found in the target. */
  entry: Entry | undefined;
  /** Whether a batch under way has it. */
  isUnderWay: boolean;
  /** Whether only the batch under way may have published it. */
  isFirst: boolean;
}

/** What one claim of a partition has outgoing. */
export class Outgoing {
  readonly #messages = new Map<number, Message>();
  /** A place that counts once two more acknowledgements are stored. */
  #candidate: { readonly place: number; readonly acknowledgements: number } | undefined;

  /** A look has found a message of a notification that is not handled. */
  add(id: number, base: number): void {
    const known = this.#messages.get(id);
    if (known !== undefined) known.isThere = true;
    else {
      const none = { entry: undefined, isUnderWay: false, isFirst: false };
      this.#messages.set(id, { base, isThere: true, ...none });
    }
  }

  /** A look was made: `isFound` tells whether it has found a message. */
  looked(isFound: (id: number) => boolean): void {
    for (const [id, message] of this.#messages) message.isThere ||= isFound(id);
  }

  /** Whether a message was found in the target. */
  isThere(id: number): boolean {
    return this.#messages.get(id)?.isThere === true;
  }

  /** Messages are about to be published behind a place. */
  begin(entries: readonly Entry[], base: number): void {
    for (const entry of entries) {
      const known = this.#messages.get(entry.id);
      if (known !== undefined) Object.assign(known, { entry, isUnderWay: true });
      else {
        const first = { isThere: false, isUnderWay: true, isFirst: true };
        this.#messages.set(entry.id, { base, entry, ...first });
      }
    }
  }

  /** None of these is under way any more. Those of `unsent` were certainly not published by this batch. */
  end(entries: readonly Entry[], unsent: ReadonlySet<Entry>): void {
    for (const entry of entries) {
      const message = this.#messages.get(entry.id)!;
      if (message.isFirst && unsent.has(entry)) this.#messages.delete(entry.id);
      message.isUnderWay = message.isFirst = false;
    }
  }

  /** A place behind which all of them lie. Infinity if there are none. */
  get base(): number {
    let base = Infinity;
    for (const message of this.#messages.values()) base = Math.min(base, message.base);
    return base;
  }

  /** Those that hold the place until it is known what is stored of them: they are in no batch and not read. */
  get stuck(): number[] {
    return [...this.#messages].flatMap(([id, { entry, isUnderWay }]) =>
      !isUnderWay && (entry === undefined || entry.phase === "dropped") ? [id] : []
    );
  }

  /** Forgets a message that is stored as handled, unless it is published again. */
  forget(id: number): void {
    if (this.#messages.get(id)?.isUnderWay === false) this.#messages.delete(id);
  }

  /**
   * The place up to which all is certainly stored as handled, at most `end`. Undefined if none is known
   * now.
   */
  settled(held: OwnedPartition, end: number): number | undefined {
    // The position is stored where it can be, and with it the outcomes of all handlers.
    const isStored = held.handled === 0 && held.move === undefined;
    const read = new Set(held.entries());
    for (const [id, { entry, isUnderWay }] of this.#messages) {
      if (isUnderWay || entry?.phase !== "settled" || read.has(entry)) continue;
      this.#messages.delete(id); // the position may pass it
    }
    const place = Math.min(this.base, end);
    const { acknowledgements } = held;
    const candidate = this.#candidate;
    if (isStored) {
      this.#candidate = undefined;
      return place;
    }
    // The acknowledgement that ran when the candidate was noted may not have had all of it. The one after
    // that had.
    if (candidate !== undefined && acknowledgements < candidate.acknowledgements + 2) {
      return undefined;
    }
    this.#candidate = { place, acknowledgements };
    return candidate?.place;
  }
}
