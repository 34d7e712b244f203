/**
 * A notification on its way through a worker, and the phases of that way.
 *
 * @module
 */

import type { LogRow } from "../notification.ts";
import type { Position } from "./position.ts";

/**
 * Where an entry is:
 *
 * - `"ready"`: read from the log. Its handler is called when its turn comes.
 * - `"running"`: its handler was called and has not returned.
 * - `"waiting"`: it failed, or is behind a failed one of its lane, and has a row in hark.waiting. It
 *   is read again when it is due and its turn comes.
 * - `"settled"`: handled, or given up.
 * - `"dropped"`: its partition is lost, or it will be read again. A result of its handler no longer
 *   counts.
 */
export type Phase = "ready" | "running" | "waiting" | "settled" | "dropped";

/** A notification on its way through a worker. Only `Entries` and `WaitingRows` change one. */
export interface Entry {
  readonly id: number;
  /** The partition that the notification belongs to. */
  readonly partition: number;
  /** The entry's lane. Entries of one lane are handled in order, one after the other. */
  readonly lane: string | undefined;
  readonly key: string | null;
  /** The notification. Undefined while it is not in memory: it is read again when its turn comes. */
  readonly row: LogRow | undefined;
  /** The position after the entry's page. Undefined if the entry was already waiting. */
  readonly page: Position | undefined;
  readonly phase: Phase;
  /**
   * Whether the entry has, or is about to have, a row in hark.waiting. True if it waits, and while
   * the handler of one that waited runs.
   */
  readonly stored: boolean;
  /** Whether the database knows, or is about to be told, that the entry is settled. */
  readonly told: boolean;
  /** How many attempts have failed. */
  readonly attempts: number;
  /** How many workers have crashed in a row that may have called the entry's handler. */
  readonly crashes: number;
  /** When the entry's handler was called. 0 while no handler runs. */
  readonly startedAt: number;
  /** Whether the entry must be handled alone, because it may have crashed the last worker. */
  readonly alone: boolean;
  readonly isReplay: boolean;
  /** What is known of the entry's row in hark.waiting. Undefined for an entry that never waited. */
  readonly wait: WaitingRow | undefined;
  /** The group with which the entry takes turns: see Turns, which notes it here. */
  readonly group: unknown;
}

/** What a worker knows of a row of hark.waiting, and what was asked for from outside. */
export interface WaitingRow {
  /** Whether the row is certainly stored. If it is gone later, the notification was discarded. */
  readonly certain: boolean;
  /** The number of the last change seen that asked for the next attempt at once. */
  readonly hurried: number;
  /** Whether an attempt at once was asked for while the handler ran. */
  readonly again: boolean;
  /** Whether the notification was discarded while the handler ran. */
  readonly discarded: boolean;
  /**
   * When the next attempt would be due, if this worker tries at once because it has just started.
   * Such an attempt does not count.
   */
  readonly extraUntil: number | undefined;
}

/** A row of hark.waiting of which nothing was asked yet. */
export function waitingRow(certain: boolean, hurried = 0, extraUntil?: number): WaitingRow {
  return { certain, hurried, again: false, discarded: false, extraUntil };
}

/** The number of an entry's next attempt, as its handler is told it: each crash counts. */
export function nextAttempt({ attempts, crashes }: Entry): number {
  return attempts + crashes + 1;
}

/** Whether the position may pass an entry. */
export function isPassable({ phase, stored }: Entry): boolean {
  return stored || phase === "settled";
}

/** Whether an entry is not to be handled any more by what holds it. */
export function isOver({ phase }: Entry): boolean {
  return phase === "settled" || phase === "dropped";
}

/** What hark.acknowledge must store for a notification that did not simply succeed. */
export type Outcome =
  | {
    readonly kind: "wait";
    readonly entry: Entry;
    readonly state: "failed" | "newer" | "behind" | "running";
    /** When to retry the notification, by `performance.now()`. */
    readonly due: number;
    readonly error: string | null;
  }
  | { readonly kind: "end"; readonly entry: Entry }
  | { readonly kind: "dead"; readonly entry: Entry; readonly error: string };

/** About how many bytes of memory an entry's notification takes. */
export function sizeOf({ row }: Entry): number {
  return row === undefined ? 0 : 200 + (row.payload?.length ?? 0) + (row.headers?.length ?? 0);
}

type Changing<T> = { -readonly [Field in keyof T]: T[Field] };

/** An entry for the functions that change it. */
export function change(entry: Entry): Changing<Entry> {
  return entry;
}

/** What is known of a row, for the functions that change it. */
export function changeRow(row: WaitingRow): Changing<WaitingRow> {
  return row;
}
