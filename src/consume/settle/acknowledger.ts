/**
 * Stores a worker's progress in groups. Updating a row for every notification would bloat it.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { seam } from "../../observe/seam.ts";
import { ascii, mostOfError, shortened } from "../../visible.ts";
import type { OwnedPartition } from "../state/partition.ts";
import type { Position } from "../state/position.ts";
import type { Outcome } from "../state/entry.ts";
import { numbersText } from "../state/identity.ts";
import type { State } from "../state/state.ts";
import { acknowledge } from "./together.ts";

/** After how many refusals for a locked partition an acknowledgement waits for it. */
const refusals = 3;
/** How long a locked partition is left alone, in milliseconds. */
const lockedTime = 50;
/** For how long what is handled ahead of a position is left to the position, in milliseconds. */
const aheadTime = 1000;
/**
 * The most characters of all errors of an acknowledgement together: if thousands fail at once, less of
 * each is stored. The server reads the text several times, and has readerTimeout for that.
 */
const mostText = 500_000;

/** Decides when to acknowledge and what. */
export class Acknowledger {
  readonly #state: State;
  #at = performance.now();
  /** How long positions that have passed only empty windows need not be stored, in milliseconds. */
  #patience = 60_000;
  /** How many times in a row a partition was locked. */
  #refused = 0;
  #notBefore = -Infinity;
  /** When to look for what was handled ahead of a position that does not move. */
  #lateAt = Infinity;
  readonly #tellsLate: boolean;

  constructor(state: State) {
    this.#state = state;
    const { handling, identity } = state.options;
    // A transaction has stored it. A relay finds in its target what it has sent.
    this.#tellsLate = !identity.transactional && !handling.isWaitedFor;
  }

  /** When the next acknowledgement is due at the latest. Infinity if there is nothing to store. */
  get due(): number {
    return Math.max(Math.min(this.#due, this.#lateAt), this.#notBefore);
  }

  get #due(): number {
    const { options, toStore, entries: { unacknowledged, rows: { outcomes } } } = this.#state;
    if (toStore >= options.acknowledgeCount) return -Infinity;
    // Store a failure soon, so that a worker that takes over continues counting its attempts.
    if (outcomes.size > 0) return this.#at + Math.min(options.acknowledgeInterval, 200);
    if (unacknowledged > 0) return this.#at + options.acknowledgeInterval;
    // Only positions have moved: in the middle of a scan for a rare channel, or past empty windows.
    // These are stored now and then, because cleaning goes by the stored positions.
    for (const reader of this.#state.readers) {
      if (reader.dirty && reader.inWindow) return this.#at + 5 * options.acknowledgeInterval;
      if (reader.dirty && !this.#isStored(reader.partitions)) {
        return this.#at + options.acknowledgeInterval;
      }
      if (reader.moved && !reader.inWindow) return this.#at + this.#patience;
    }
    return Infinity;
  }

  /** Positions are wanted as they are: cleaning waits for them. */
  hurry(): void {
    this.#patience = 0;
  }

  #isStored(partitions: Iterable<OwnedPartition>): boolean {
    for (const held of partitions) if (held.move !== undefined) return false;
    return true;
  }

  /** Whether the partitions are at their reader's position, with no unfinished entry. */
  #isThere(partitions: Iterable<OwnedPartition>): boolean {
    for (const held of partitions) {
      if (held.oldest !== undefined || held.move !== undefined) return false;
    }
    return true;
  }

  /**
   * Stores all progress and outcomes that are not stored yet. Sends nothing if there are none.
   *
   * @param patient Whether to wait for a partition that a handler's transaction holds. Otherwise its
   *   progress may be stored later.
   */
  async send(session: Queryable, patient: boolean = false): Promise<void> {
    const state = this.#state;
    for (const reader of state.readers) if (reader.moved && !reader.inWindow) reader.dirty = true;
    const now = performance.now();
    if (now >= this.#lateAt) this.#lateAt = state.tellLate() ? now + aheadTime : Infinity;
    const outcomes = [...state.entries.rows.outcomes.values()];
    const told = new Set(outcomes.map(({ entry }) => entry.partition));
    const moves: {
      held: OwnedPartition;
      move: Position | undefined;
      handled: number;
      calm: boolean;
    }[] = [];
    for (const held of [...state.partitions.values()].sort((a, b) => a.number - b.number)) {
      const { reader } = held;
      if (reader?.fresh && !reader.inWindow && held.oldest === undefined) held.tail = 0;
      const { move, handled } = held;
      if (handled > 0 && held.oldest !== undefined && this.#tellsLate) {
        this.#lateAt = Math.min(this.#lateAt, now + aheadTime);
      }
      const calm = held.crashes > 0 && held.tail === 0;
      if (move === undefined && handled === 0 && !calm && !told.has(held.number)) continue;
      moves.push({ held, move, handled, calm });
    }
    this.#at = performance.now();
    this.#patience = 60_000;
    if (moves.length === 0) return;
    const { consumer, owner } = state.options.identity;
    // If a page is requested ahead, the acknowledgement comes after it. The time measured here
    // would then include that page, so it is not used.
    const waits = state.readers.some((reader) => reader.ahead !== undefined);
    const marks = new Map<number, string>();
    for (const { move } of moves) {
      for (const mark of [move?.seen, move?.target]) {
        if (mark !== undefined) marks.set(mark.number, mark.content);
      }
    }
    // Not as an array's text: with array_nulls off, which may be the default, that has no nulls.
    const list = (of: (move: Position) => number | undefined) =>
      moves.map(({ move }) => move === undefined ? "" : of(move) ?? "").join(",");
    const progress = [
      consumer,
      owner,
      numbersText(moves.map(({ held }) => held.number)),
      numbersText(moves.map(({ held }) => held.epoch)),
      JSON.stringify([...marks.values()]),
      list(({ seen }) => seen.number),
      list(({ target }) => target?.number),
      list(({ lastId }) => lastId),
      list(({ afterId }) => afterId),
      numbersText(moves.map(({ handled }) => handled)),
      `{${moves.map(({ calm }) => calm ? "t" : "f").join(",")}}`,
      outcomes.length === 0 ? null : outcomesText(outcomes),
    ];
    const store = () => acknowledge(session, progress, patient || this.#refused >= refusals);
    const count = moves.reduce((sum, { handled }) => sum + handled, outcomes.length);
    const { observer } = seam;
    const isStored = observer === undefined
      ? await store()
      : await observer.settle(state.run.observed, count, store);
    if (!isStored) {
      this.#refused++;
      this.#notBefore = performance.now() + lockedTime;
      return;
    }
    this.#refused = 0;
    const took = performance.now() - this.#at;
    if (!waits) state.commitTime = (state.commitTime ?? took) * 0.8 + took * 0.2;
    for (const { held, move, handled, calm } of moves) {
      if (state.partitions.get(held.number) !== held) continue;
      held.handled -= handled;
      held.acknowledgements++;
      state.entries.unacknowledged -= handled;
      if (calm) held.crashes = 0;
      if (move !== undefined) held.stored(move);
    }
    for (const reader of state.readers) {
      if (!reader.inWindow && this.#isThere(reader.partitions)) reader.dirty = reader.moved = false;
    }
    for (const outcome of outcomes) {
      if (outcome.kind === "wait") state.entries.rows.confirm(outcome.entry);
      if (state.entries.rows.outcomes.get(outcome.entry.id) === outcome) {
        state.entries.rows.outcomes.delete(outcome.entry.id);
      }
    }
  }
}

function outcomesText(outcomes: readonly Outcome[]): string {
  const now = performance.now();
  const failed = outcomes.filter((one) => one.kind !== "end" && one.error !== null).length;
  const most = Math.min(mostOfError, Math.max(100, Math.floor(mostText / Math.max(1, failed))));
  return JSON.stringify(outcomes.map((outcome) => {
    const { id, partition, key, attempts, wait } = outcome.entry;
    const stored = wait?.certain === true;
    switch (outcome.kind) {
      case "wait":
        return {
          kind: "wait",
          id,
          partition,
          key,
          attempts,
          state: outcome.state,
          due_ms: Math.max(0, Math.round(outcome.due - now)),
          error: quoted(outcome.error, most),
          stored,
        };
      case "end":
        return { kind: "end", id, partition, stored: wait !== undefined && !wait.discarded };
      case "dead":
        return {
          kind: "dead",
          id,
          partition,
          attempts,
          error: quoted(outcome.error, most),
          stored,
        };
    }
  }));
}

/**
 * The text of a JSON string, in ASCII: the database may lack a character, and no failure may be
 * lost for that.
 */
function quoted(error: string | null, most: number): string | null {
  return error === null ? null : ascii(JSON.stringify(shortened(error, most)));
}
