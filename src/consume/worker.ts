/**
 * Serves one partition over one session: reads pages, has them handled one by one, acknowledges.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { backoff, pause } from "../database/bell.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf, translate } from "../database/translate.ts";
import type { HarkError } from "../errors.ts";
import { claim } from "./claim.ts";
import { type LogRow, Notification } from "./notification.ts";
import type { Page } from "./page.ts";
import type { OwnedPartition } from "./partition.ts";
import type { Run, WorkerOptions } from "./run.ts";
import { isThenable, settled } from "./settle.ts";

const logger = getLogger(["hark", "consumer"]);

/** Serves until stopped or drained (true), or until the claim must be made anew (false). */
export async function serve(
  session: Queryable,
  options: WorkerOptions,
  run: Run,
): Promise<boolean> {
  const sessionKey = run.listener?.sessionKey;
  const partition = await claim(session, options.claimant, run, sessionKey);
  if (partition === undefined) return true;
  logger.debug("{consumer} claimed under epoch {epoch}", {
    consumer: options.claimant.consumer,
    epoch: partition.epoch,
  });
  run.started ??= partition.claimedAt;
  const { pending } = run;
  // Seek also raises the epoch, and then handled ones are wanted again: only an unbroken row counts. And
  // after a crash or a fail-over the same ids may be those of other notifications.
  if (partition.epoch !== pending.epoch + 1 || partition.incarnation !== pending.incarnation) {
    pending.ids.clear();
  }
  pending.epoch = partition.epoch;
  pending.incarnation = partition.incarnation;
  const worker = new Worker(session, partition, options, run, sessionKey);
  const done = await worker.work();
  if (done) await partition.release();
  return done;
}

class Worker {
  readonly #session: Queryable;
  readonly #partition: OwnedPartition;
  readonly #options: WorkerOptions;
  readonly #run: Run;
  readonly #sessionKey: bigint | undefined;
  readonly #lost = new AbortController();
  readonly #signal: AbortSignal;
  #unacknowledged = 0;
  #acknowledgedAt = performance.now();
  #failure: HarkError | undefined;

  constructor(
    session: Queryable,
    partition: OwnedPartition,
    options: WorkerOptions,
    run: Run,
    sessionKey: bigint | undefined,
  ) {
    this.#session = session;
    this.#partition = partition;
    this.#options = options;
    this.#run = run;
    this.#sessionKey = sessionKey;
    this.#signal = AbortSignal.any([this.#lost.signal, run.abandon]);
  }

  /** @returns whether the run is over, rather than this claim. */
  async work(): Promise<boolean> {
    const { lease } = this.#options.claimant;
    const renewal = setInterval(() => {
      if (this.#partition.sinceRenewal >= lease / 4) void this.#renew();
    }, lease / 4);
    // Another worker takes over a second after the session's lock is free, unless it is told in that time
    // that we are there. Where it cannot be told, the handler in hand learns that it may not count.
    const forget = this.#run.listener?.onLoss(() => void this.#renew());
    try {
      return await this.#work();
    } catch (error) {
      throw this.#failure ?? error;
    } finally {
      clearInterval(renewal);
      forget?.();
      this.#lost.abort();
    }
  }

  async #work(): Promise<boolean> {
    const { bell, listener, stopping, drain, finishing, pending } = this.#run;
    // A window that was stored open may have been opened before this run: it does not end a drain.
    let fresh = !this.#partition.inWindow;
    // As it was before the window was opened: what rang since, in whatever page, is not in the window.
    let rung = -1;
    while (!stopping.aborted && listener?.sessionKey === this.#sessionKey) {
      this.#throwIfLost();
      if (!this.#partition.inWindow) rung = bell.count;
      const page = await this.#partition.read(this.#options.limits, this.#run.started!);
      if (page.rows.length > 0) {
        if (!await this.#handlePage(page.rows, page.windowEnd)) return true;
      } else if (page.windowEnd) {
        await this.#endWindow(page);
      } else if (this.#due) {
        await this.#acknowledge(0);
      }
      if (!page.windowEnd) continue;
      if (drain && fresh || finishing && pending.ids.size === 0) return true;
      fresh = true;
      await this.#waymark();
      if (page.rows.length === 0) await bell.wait(rung, this.#options.pollInterval, stopping);
    }
    if (this.#unacknowledged > 0) await this.#acknowledge(Infinity);
    return stopping.aborted;
  }

  /** @returns whether to go on: false when stopping. */
  async #handlePage(rows: readonly LogRow[], windowEnd: boolean): Promise<boolean> {
    const { stopping, pending, finishing } = this.#run;
    let last: number | undefined;
    for (const row of rows) {
      if (pending.ids.has(row.id)) {
        this.#unacknowledged++;
      } else if (finishing || stopping.aborted || !await this.#deliver(row, last)) {
        if (last !== undefined) await this.#acknowledge(last, last);
        return false;
      }
      last = row.id;
      if (this.#due && row !== rows.at(-1)) await this.#acknowledge(last, last);
      this.#throwIfLost();
    }
    if (windowEnd || this.#due) await this.#acknowledge(windowEnd ? Infinity : last!);
    return true;
  }

  /** Tries until the handler succeeds. @returns whether it did: false when stopping. */
  async #deliver(row: LogRow, before: number | undefined): Promise<boolean> {
    const { claimant, handle, onError, retryInitial, retryMaximum, random } = this.#options;
    const { failing } = this.#partition;
    let attempt = failing?.id === row.id ? failing.attempts + 1 : 1;
    for (;; attempt++) {
      const notification = new Notification(row, attempt);
      try {
        const result = handle(notification, this.#signal);
        if (isThenable(result)) await settled(result, this.#run.abandon);
        this.#run.handled++;
        this.#run.pending.ids.add(row.id);
        this.#unacknowledged++;
        return true;
      } catch (error) {
        if (this.#signal.aborted) {
          this.#throwIfLost();
          return false;
        }
        const wait = Math.round(backoff(attempt, retryInitial, retryMaximum, random));
        logger.error(
          "{consumer}: notification {id} failed at attempt {attempt}, next in {wait} ms: {reason}",
          {
            consumer: claimant.consumer,
            id: row.id,
            attempt,
            wait,
            reason: messageOf(error),
            error,
          },
        );
        await this.#report(onError, error, notification);
        if (before !== undefined && this.#unacknowledged > 0) {
          await this.#acknowledge(before, before);
        }
        await this.#partition.recordFailure(row.id, attempt, messageOf(error));
        await pause(wait, AbortSignal.any([this.#run.stopping, this.#lost.signal]));
        this.#throwIfLost();
        if (this.#run.stopping.aborted) return false;
      }
    }
  }

  async #report(
    onError: WorkerOptions["onError"],
    error: unknown,
    notification: Notification,
  ): Promise<void> {
    try {
      await onError?.(error, notification);
    } catch (failed) {
      logger.error("onError of {consumer} failed itself: {reason}", {
        consumer: this.#options.claimant.consumer,
        reason: messageOf(failed),
        error: failed,
      });
    }
  }

  get #due(): boolean {
    return this.#unacknowledged >= this.#options.acknowledgeCount ||
      performance.now() - this.#acknowledgedAt >= this.#options.acknowledgeInterval;
  }

  /** Stores what is handled: up to `stored` as far as pending ids go, and only through an id where given. */
  async #acknowledge(stored: number, through?: number): Promise<void> {
    await this.#partition.acknowledge(this.#unacknowledged, through);
    this.#unacknowledged = 0;
    this.#acknowledgedAt = performance.now();
    const { ids } = this.#run.pending;
    for (const id of ids) if (id <= stored) ids.delete(id);
  }

  /** After the last page of a window, which had no rows. */
  async #endWindow(page: Page): Promise<void> {
    // Now and then also an empty window is stored: cleaning goes by what is stored.
    const store = page.span > 0 && performance.now() - this.#acknowledgedAt > 60_000;
    if (store || !this.#partition.discardWindow()) await this.#acknowledge(Infinity);
  }

  /** Waymarks tell later readers where to begin. Made by whoever reads, now and then. */
  async #waymark(): Promise<void> {
    const { waymark, handled } = this.#run;
    const now = performance.now();
    if (handled === waymark.handled) return;
    if (now - waymark.at < 10_000 && handled - waymark.handled < 10_000) return;
    this.#run.waymark = { at: now, handled };
    await this.#session.query("select hark.waymark()");
  }

  async #renew(): Promise<void> {
    const kept = this.#run.listener?.sessionKey === this.#sessionKey;
    try {
      await this.#partition.renew(kept ? this.#sessionKey : undefined);
    } catch (error) {
      this.#failure = translate(error);
      this.#lost.abort(this.#failure);
    }
  }

  #throwIfLost(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
