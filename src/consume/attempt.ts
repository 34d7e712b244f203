/**
 * Calls handlers: one notification or a batch, with a timeout, in a transaction where wanted.
 *
 * @module
 */

import { show } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import type { HeldPartition } from "./held.ts";
import type { Notification } from "./notification.ts";
import type { BatchHandler, Handler, HandlerContext } from "./handler.ts";
import type { Entry } from "./queue.ts";
import { isThenable, settled } from "./settle.ts";
import type { Transactions } from "./transactions.ts";

/** What a handler made of a notification: nothing to tell where it succeeded. */
export type Result = { readonly error: unknown } | undefined;

/** What is called, and how. */
export interface Handling {
  readonly handle: Handler | undefined;
  readonly handleBatch: BatchHandler | undefined;
  /** Milliseconds; undefined for none. */
  readonly timeout: number | undefined;
}

/** Entries with their notifications, and the partitions they belong to. */
export interface Work {
  readonly entries: readonly Entry[];
  readonly notifications: readonly Notification[];
  readonly held: readonly HeldPartition[];
}

const succeeded: readonly Result[] = [undefined];

function noTransaction(): never {
  throw new HarkError("BAD_OPTION", "this consumer has no transactions", {
    remedy: "Give it transactional: true.",
  });
}

function noBatch(): never {
  throw new HarkError("BAD_OPTION", "fail() is for handleBatch", {
    remedy: "Throw from handle instead.",
  });
}

/** Calls the handlers of one consumer. */
export class Attempts {
  readonly #handling: Handling;
  readonly #transactions: Transactions | undefined;
  readonly #abandon: AbortSignal;
  /** One for each partition's signal: most calls need nothing of their own. */
  readonly #contexts = new WeakMap<AbortSignal, HandlerContext>();

  constructor(
    handling: Handling,
    transactions: Transactions | undefined,
    abandon: AbortSignal,
  ) {
    this.#handling = handling;
    this.#transactions = transactions;
    this.#abandon = abandon;
  }

  /** Calls the handler. What it throws is in the results, not thrown, except where all is in doubt. */
  run(work: Work): readonly Result[] | Promise<readonly Result[]> {
    const { handle, timeout } = this.#handling;
    if (handle === undefined || timeout !== undefined || this.#transactions !== undefined) {
      return this.#guarded(work);
    }
    try {
      const result = handle(work.notifications[0]!, this.#context(work.held[0]!.signal));
      return isThenable(result) ? this.#settled(result) : succeeded;
    } catch (error) {
      return [{ error }];
    }
  }

  #context(signal: AbortSignal): HandlerContext {
    let context = this.#contexts.get(signal);
    if (context === undefined) {
      context = {
        signal,
        get tx(): Queryable {
          return noTransaction();
        },
        fail: noBatch,
      };
      this.#contexts.set(signal, context);
    }
    return context;
  }

  async #settled(result: PromiseLike<unknown>): Promise<readonly Result[]> {
    try {
      await settled(result, this.#abandon);
      return succeeded;
    } catch (error) {
      return [{ error }];
    }
  }

  async #guarded(work: Work): Promise<readonly Result[]> {
    const { timeout } = this.#handling;
    const late = new AbortController();
    const signal = AbortSignal.any([...work.held.map((h) => h.signal), late.signal]);
    const given = new AbortController();
    const tooLong = new DOMException(`the handler took longer than ${timeout} ms`, "TimeoutError");
    const timers = timeout === undefined ? [] : [
      setTimeout(() => late.abort(tooLong), timeout),
      setTimeout(() => given.abort(tooLong), 2 * timeout),
    ];
    const failed = new Map<Notification, unknown>();
    const call = async (tx: Queryable | undefined): Promise<void> => {
      const context: HandlerContext = {
        signal,
        get tx(): Queryable {
          return tx ?? noTransaction();
        },
        fail: this.#handling.handleBatch === undefined ? noBatch : (notification, error) => {
          if (!work.notifications.includes(notification)) {
            throw new HarkError(
              "BAD_OPTION",
              `fail() was given ${show(notification)}, which is not of this batch`,
              {
                remedy: "Give one of the notifications that the handler was called with.",
              },
            );
          }
          failed.set(notification, error ?? new Error("failed"));
        },
      };
      const { handle, handleBatch } = this.#handling;
      const result = handle !== undefined
        ? handle(work.notifications[0]!, context)
        : handleBatch!(work.notifications, context);
      // Late, the result counts no more. It is waited for as long again, as nothing of its key may begin beside it.
      if (isThenable(result)) {
        await settled(result, AbortSignal.any([this.#abandon, given.signal]));
      }
      late.signal.throwIfAborted();
    };
    try {
      if (this.#transactions === undefined) await call(undefined);
      else await this.#inTransaction(work, late.signal, failed, call);
      return work.notifications.map((n) => failed.has(n) ? { error: failed.get(n) } : undefined);
    } catch (error) {
      return work.notifications.map((n) => ({ error: failed.get(n) ?? error }));
    } finally {
      timers.forEach(clearTimeout);
    }
  }

  /**
   * What was written for one notification of a batch cannot be taken back alone, so one that fails fails the
   * batch; those after it are not to blame, and come again.
   */
  async #inTransaction(
    work: Work,
    late: AbortSignal,
    failed: ReadonlyMap<Notification, unknown>,
    call: (tx: Queryable) => Promise<void>,
  ): Promise<void> {
    await this.#transactions!.run(
      work.held,
      AbortSignal.any([this.#abandon, late]),
      async (tx) => {
        await call(tx);
        if (failed.size > 0) throw new BatchFailed();
        return work.entries;
      },
    );
  }
}

/** Others of the batch have failed, so its transaction was rolled back: no attempt of this one's. */
export class BatchFailed extends Error {
  constructor() {
    super("another notification of the batch failed");
  }
}
