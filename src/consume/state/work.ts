/**
 * Entries that are handled together, and what came of them.
 *
 * @module
 */

import type { Notification } from "../notification.ts";
import type { Entry } from "./entry.ts";
import type { OwnedPartition } from "./partition.ts";

/** The result of a handler for one notification. Undefined if it succeeded. */
export type Result = { readonly error: unknown } | undefined;

/** Entries with their notifications, and the partitions they belong to. */
export interface Work {
  readonly entries: readonly Entry[];
  readonly notifications: readonly Notification[];
  readonly held: readonly OwnedPartition[];
  /** What the handler returned, once it has. */
  returned?: unknown;
}

/** Entries that were handled together, and the signals that their handlers were given. */
export interface Batch extends Work {
  readonly signals: readonly AbortSignal[];
}

/**
 * Other notifications of the batch have failed, so its transaction was rolled back. This does not
 * count as a failed attempt of this notification.
 */
export class BatchFailed extends Error {
  constructor() {
    super("another notification of the batch failed");
  }
}

/** Thrown if it is not known whether a transaction has committed. */
export class Unsure extends Error {
  constructor(cause: unknown) {
    super("it is not known whether the transaction committed", { cause });
  }
}
