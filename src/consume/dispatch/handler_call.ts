/**
 * Calls handlers: for one notification or a batch, with a timeout, in a transaction if wanted.
 *
 * @module
 */

import { Joined } from "../../aborted.ts";
import type { Queryable } from "../../database/queryable.ts";
import { messageOf } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import { longestTimer } from "../../duration.ts";
import { HarkError } from "../../errors.ts";
import type { Notification } from "../notification.ts";
import type { HandlerContext, HandlingWorker } from "../handler.ts";
import type { Handling } from "../state/context.ts";
import { BatchFailed, noteWork, type Result, type Work } from "../state/work.ts";
import { isThenable, settled } from "./await_result.ts";
import { BatchInHand } from "./batch.ts";
import type { Transactions } from "./transactions.ts";

const logger = getLogger(["hark", "consumer"]);

const succeeded: readonly Result[] = [undefined];

function noTransaction(): never {
  throw new HarkError("BAD_OPTION", "context.tx needs a transactional consumer", {
    remedy: "Set transactional: true.",
  });
}

function noBatch(): never {
  throw new HarkError("BAD_OPTION", "fail() was called in handle, but it is for handleBatch", {
    remedy: "Throw an error instead.",
  });
}

const nothingFailed = () => false;

/** Calls the handlers of one consumer. */
export class HandlerCalls {
  readonly #handling: Handling;
  readonly #transactions: Transactions | undefined;
  readonly #abandon: AbortSignal;
  readonly #worker: Omit<HandlingWorker, "partition">;
  /** What handlers learn of the worker, for each partition. */
  readonly #workers = new Map<number, HandlingWorker>();

  constructor(
    handling: Handling,
    transactions: Transactions | undefined,
    abandon: AbortSignal,
    worker: Omit<HandlingWorker, "partition">,
  ) {
    this.#worker = worker;
    this.#handling = handling;
    this.#transactions = transactions;
    this.#abandon = abandon;
  }

  /** Calls the handler. Errors that it throws are in the results. */
  run(work: Work): readonly Result[] | Promise<readonly Result[]> {
    const { handle, timeout } = this.#handling;
    if (handle === undefined || timeout !== undefined || this.#transactions !== undefined) {
      return this.#guarded(work);
    }
    const [held] = work.held;
    const context = new PlainContext(this.#workerOf(held!.number), held!.signal);
    try {
      const result = handle(work.notifications[0]!, context);
      if (isThenable(result)) return this.#settled(work, result, context);
      work.returned = result;
      context.end();
      return succeeded;
    } catch (error) {
      context.end();
      return [{ error }];
    }
  }

  #workerOf(partition: number): HandlingWorker {
    let worker = this.#workers.get(partition);
    if (worker === undefined) {
      worker = { ...this.#worker, partition };
      this.#workers.set(partition, worker);
    }
    return worker;
  }

  async #settled(
    work: Work,
    result: PromiseLike<unknown>,
    context: PlainContext,
  ): Promise<readonly Result[]> {
    try {
      work.returned = await settled(result, this.#abandon);
      return succeeded;
    } catch (error) {
      return [{ error }];
    } finally {
      context.end();
    }
  }

  async #guarded(work: Work): Promise<readonly Result[]> {
    const { timeout } = this.#handling;
    const late = new AbortController();
    // The handler's own signal, so that what it leaves listening goes with the call.
    using joined = new Joined(...work.held.map((h) => h.signal), late.signal);
    const { signal } = joined;
    const { promise: givenUp, reject: giveUp } = Promise.withResolvers<never>();
    givenUp.catch(() => {}); // the transaction may not have begun
    let begun = false;
    const tooLong = new DOMException(`the handler took longer than ${timeout} ms`, "TimeoutError");
    const timers = timeout === undefined ? [] : [
      setTimeout(() => late.abort(tooLong), timeout),
      setTimeout(() => {
        if (begun) this.#tellOfAbandoned(work, timeout);
        giveUp(tooLong);
      }, Math.min(2 * timeout, longestTimer)),
    ];
    const batch = new BatchInHand(work, (one, error) => this.#tellOfLate(one, error));
    const { failed } = batch;
    const call = async (tx: Queryable | undefined): Promise<void> => {
      const context: HandlerContext = {
        worker: work.held.length === 1
          ? this.#workerOf(work.held[0]!.number)
          : { ...this.#worker, partition: undefined },
        signal,
        get tx(): Queryable {
          return tx ?? noTransaction();
        },
        fail: this.#handling.handleBatch === undefined ? noBatch : batch.fail,
        isBehindFailure: batch.isBehindFailure,
      };
      const { handle, handleBatch } = this.#handling;
      if (handleBatch !== undefined) noteWork(context, work);
      begun = true;
      const result = handle !== undefined
        ? handle(work.notifications[0]!, context)
        : handleBatch!(batch.notifications, context);
      // After the timeout the result no longer counts. The handler is still awaited for as long
      // again, so that no other handler of its key starts beside it.
      work.returned = isThenable(result)
        ? await Promise.race([settled(result, this.#abandon), givenUp])
        : result;
      late.signal.throwIfAborted();
    };
    const called = async (tx: Queryable | undefined): Promise<void> => {
      await call(tx);
      batch.end();
    };
    try {
      if (this.#transactions === undefined) await called(undefined);
      else await this.#inTransaction(work, late.signal, failed, called);
      return work.notifications.map((n) => failed.has(n) ? { error: failed.get(n) } : undefined);
    } catch (error) {
      return work.notifications.map((n) => ({ error: failed.get(n) ?? error }));
    } finally {
      timers.forEach(clearTimeout);
    }
  }

  /**
   * Says that a failure was reported too late. Nothing is thrown: code that nothing awaits would end the
   * process with it.
   */
  #tellOfLate({ id }: Notification, error: unknown): void {
    logger.error(
      "{consumer}: fail() was called for notification {id} after its batch handler had returned. That is too " +
        "late: it counts as handled unless the batch has failed. Await all work before the handler returns: {reason}",
      { consumer: this.#worker.consumer, id, reason: messageOf(error ?? "failed"), error },
    );
  }

  /** Says that a handler goes on, although its result counts no longer and its key goes on too. */
  #tellOfAbandoned(work: Work, timeout: number): void {
    const [first, ...others] = work.notifications;
    logger.warn(
      "{consumer}: the handler of notification {id}{more} still runs {waited} ms after it began, although " +
        "its signal has aborted. It is no longer waited for: another attempt may run beside it",
      {
        consumer: this.#worker.consumer,
        id: first!.id,
        more: others.length === 0 ? "" : ` and ${others.length} more`,
        waited: Math.min(2 * timeout, longestTimer),
      },
    );
  }

  /**
   * Runs a batch in a transaction. The writes for a single notification of a batch cannot be rolled
   * back alone. So one failed notification rolls back the batch. The other notifications are not to
   * blame, and are delivered again.
   */
  async #inTransaction(
    work: Work,
    late: AbortSignal,
    failed: ReadonlyMap<Notification, unknown>,
    call: (tx: Queryable) => Promise<void>,
  ): Promise<void> {
    using over = new Joined(this.#abandon, late, this.#transactions!.over);
    await this.#transactions!.run(
      work.held,
      over.signal,
      async (tx) => {
        // A driver may give its connection late.
        over.signal.throwIfAborted();
        await call(tx);
        if (failed.size > 0) throw new BatchFailed();
        return work.entries;
      },
    );
  }
}

/**
 * The context of a handler that has no timeout and no transaction. Its signal is made when it is first asked for:
 * most handlers never do. It is the call's own, as Deno and Node.js keep what is derived of a signal, by `fetch` too,
 * for as long as that signal lives.
 */
class PlainContext implements HandlerContext {
  readonly worker: HandlingWorker;
  readonly fail = noBatch;
  readonly isBehindFailure = nothingFailed;
  readonly #longer: AbortSignal;
  #own: Joined | undefined;
  #hasEnded = false;

  constructor(worker: HandlingWorker, longer: AbortSignal) {
    this.worker = worker;
    this.#longer = longer;
  }

  get signal(): AbortSignal {
    const own = this.#own ??= new Joined(this.#longer);
    if (this.#hasEnded) own[Symbol.dispose]();
    return own.signal;
  }

  get tx(): Queryable {
    return noTransaction();
  }

  /** The call has ended. */
  end(): void {
    this.#hasEnded = true;
    this.#own?.[Symbol.dispose]();
  }
}
