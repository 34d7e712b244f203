/**
 * Entries that are handled together, and what came of them.
 *
 * @module
 */

import type { BatchHandler, HandlerContext } from "../handler.ts";
import type { ObservedCall } from "../../observe/seam.ts";
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
  /** Whether, at a given time by `performance.now()`, this worker certainly still serves them. */
  readonly certain: (now: number) => boolean;
  /** What the handler returned, once it has. */
  returned?: unknown;
}

/** Entries that were handled together, and the signals that their handlers were given. */
export interface Batch extends Work {
  readonly signals: readonly AbortSignal[];
  /** What observes the call of the handler, if something does. */
  readonly observed: ObservedCall | undefined;
}

/** The work of each batch, by the context that its handler was given. */
const works = new WeakMap<HandlerContext, Work>();

/** Remembers which work a batch handler was called for. */
export function noteWork(context: HandlerContext, work: Work): void {
  works.set(context, work);
}

/** The work that a batch handler was called for: for a relay, which has to know the claims. */
export function workOf(context: HandlerContext): Work | undefined {
  return works.get(context);
}

/** The handlers that are waited for. */
const patient = new WeakSet<object>();

/**
 * Marks a batch handler: if it is slow, its worker waits and reads no further. Otherwise what is behind
 * slow handlers gets rows in hark.waiting, which each worker that takes over has to look through.
 */
export function waitedFor(handle: BatchHandler): BatchHandler {
  patient.add(handle);
  return handle;
}

/** Whether a batch handler was marked by {@linkcode waitedFor}. */
export function isWaitedFor(handle: BatchHandler | undefined): boolean {
  return handle !== undefined && patient.has(handle);
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
