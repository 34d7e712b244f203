/**
 * Makes entries of what was read.
 *
 * @module
 */

import type { LogRow } from "../notification.ts";
import { type Entry, waitingRow } from "./entry.ts";
import type { OwnedPartition } from "./partition.ts";
import type { Position } from "./position.ts";

/** A row of hark.waiting, as it was found. */
export interface FoundRow {
  readonly id: number;
  readonly key: string | null;
  readonly state: string;
  readonly attempts: number;
  /** In how many milliseconds the next attempt is due. */
  readonly wait: number;
  /** Whether the position has passed the notification. */
  readonly passed: boolean;
  /** The number of the last change that asked for the next attempt at once. */
  readonly hurried: number;
}

/** An entry of a row of the log. It is settled if the row was handled before, by another worker. */
export function readEntry(
  row: LogRow,
  held: OwnedPartition,
  page: Position,
  lane: string | undefined,
): Entry {
  const isDone = held.done.delete(row.id);
  return {
    id: row.id,
    partition: held.number,
    lane,
    key: row.key,
    row: isDone ? undefined : row,
    page,
    phase: isDone ? "settled" : "ready",
    stored: false,
    told: isDone,
    attempts: 0,
    crashes: held.tail > 0 ? held.crashes : 0,
    startedAt: 0,
    alone: held.crashes >= 2 && held.tail > 0,
    isReplay: row.isReplay,
    wait: undefined,
    group: undefined,
  };
}

/** An entry of a row of hark.waiting. After a restart, one that failed is tried once at once. */
export function foundEntry(
  row: FoundRow,
  held: OwnedPartition,
  now: number,
  lane: string | undefined,
): Entry {
  const extra = held.restarted && row.state === "failed" && row.wait > 0;
  // Neither was handled when the last owner crashed.
  const isUntried = row.state === "behind" || row.state === "newer";
  const crashed = held.crashes > 0 && held.outstanding === 0 && !isUntried;
  return {
    id: row.id,
    partition: held.number,
    lane,
    key: row.key,
    row: undefined,
    page: undefined,
    phase: "waiting",
    stored: true,
    told: false,
    attempts: row.attempts,
    crashes: crashed ? held.crashes : 0,
    startedAt: 0,
    alone: held.crashes >= 2,
    isReplay: true,
    wait: waitingRow(true, row.hurried, extra ? now + row.wait : undefined),
    group: undefined,
  };
}
