/**
 * What happens to notifications after their handlers were called.
 *
 * @module
 */

import { messageOf, translate } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { BatchFailed, type Result } from "./attempt.ts";
import type { Work } from "./batch.ts";
import { Notification } from "./notification.ts";
import { verdict } from "./outcomes.ts";
import type { Entry } from "./queue.ts";
import type { State } from "./state.ts";
import { Unsure } from "./transactions.ts";

const logger = getLogger(["hark", "consumer"]);

/** Entries that were handled together, and the signals that their handlers were given. */
export interface Batch extends Work {
  readonly signals: readonly AbortSignal[];
}

/** Decides what to store for each notification, and which entry may come next. */
export class Results {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  /**
   * Gives up an entry that cannot be handled, without calling its handler.
   *
   * @returns whether the entry was given up.
   */
  isHopeless(entry: Entry): boolean {
    const { options, partitions } = this.#state;
    const held = partitions.get(entry.partition)!;
    if (entry.row!.payload === null) {
      this.#giveUp(entry, new Error(`it cannot be read: ${entry.row!.problem}`), 0);
      return true;
    }
    // Two crashes are required: a worker that is ended from outside also has some entry in hand.
    const found = held.suspectId === entry.id && held.suspectEnds >= 2;
    if (!found || held.crashes < options.maxCrashes) return false;
    held.suspectId = undefined;
    const attempts = Math.max(entry.attempts, held.crashes);
    // No entry after it has crashed a worker, so those entries start without earlier attempts.
    held.tail = 0;
    this.#giveUp(
      entry,
      new Error(`its worker crashed ${attempts} times`),
      attempts,
    );
    return true;
  }

  #giveUp(entry: Entry, error: Error, attempts: number): void {
    const notification = new Notification(entry.row!, Math.max(1, attempts));
    entry.attempts = attempts;
    this.#bury(entry, notification, error, error.message);
    this.#state.queue.end(entry);
  }

  /** Processes the results of handlers that have returned or thrown. */
  told(work: Batch, results: readonly Result[]): void {
    const state = this.#state;
    const { entries } = work;
    if (entries.length === 1 && results[0] === undefined) {
      const entry = entries[0]!;
      state.running.delete(entry);
      work.held[0]!.running--;
      if (!entry.dropped) entry.settled = true;
      this.#succeeded(entry, work.notifications[0]!);
      entry.startedAt = 0;
      return;
    }
    for (const entry of entries) state.running.delete(entry);
    for (const held of work.held) {
      held.running -= entries.filter((e) => e.partition === held.number).length;
    }
    if (entries.length > 1 && state.options.concurrency > 1) {
      state.queue.putBehind(this.#followers(entries));
    }
    const failedLanes = new Set<string>();
    const failed = entries.map((entry, i) => {
      const fails = results[i] !== undefined ||
        entry.lane !== undefined && failedLanes.has(entry.lane);
      if (fails && entry.lane !== undefined) failedLanes.add(entry.lane);
      if (!fails && !entry.dropped) entry.settled = true;
      return fails;
    });
    // The signals as they were when the call began. A partition that was lost for a moment has a
    // new signal by now.
    const interrupted = work.signals.some((signal) => signal.aborted);
    const again: Entry[] = [];
    const rolledBack = new Set<string>();
    for (const [i, entry] of entries.entries()) {
      if (entry.lane !== undefined && results[i]?.error instanceof BatchFailed) {
        rolledBack.add(entry.lane);
      }
      if (!failed[i]) this.#succeeded(entry, work.notifications[i]!);
      else if (
        !this.#failed(
          entry,
          work.notifications[i]!,
          entry.lane !== undefined && rolledBack.has(entry.lane)
            ? new BatchFailed()
            : results[i]?.error,
          interrupted,
        )
      ) {
        again.push(entry);
      }
      entry.startedAt = 0;
    }
    if (again.length > 0) state.queue.putBack(again);
  }

  /** The entries of a batch that were taken from behind another one. */
  #followers(entries: readonly Entry[]): Entry[] {
    const heads = new Set<string>();
    return entries.filter((entry) => {
      if (entry.lane === undefined) return false;
      if (heads.has(entry.lane)) return true;
      heads.add(entry.lane);
      return false;
    });
  }

  #succeeded(entry: Entry, notification: Notification): void {
    const state = this.#state;
    if (!entry.dropped) {
      state.handled++;
      state.unacknowledged++;
      state.partitions.get(entry.partition)!.handled++;
      if (entry.parked) state.outcomes.set(entry.id, { kind: "end", entry });
      state.unpark(entry);
      state.letGo(entry);
    }
    state.queue.end(entry);
    if (state.options.hooks.onHandled !== undefined) {
      void this.#report("onHandled", () => state.options.hooks.onHandled?.(notification));
    }
  }

  /**
   * Processes a failed attempt.
   *
   * @returns whether the entry is dealt with. False if its handler must be called again, as if it
   *   had not been called.
   */
  #failed(
    entry: Entry,
    notification: Notification,
    error: unknown,
    interrupted: boolean,
  ): boolean {
    const state = this.#state;
    const { options, queue, partitions, run } = state;
    const held = partitions.get(entry.partition);
    if (entry.dropped || held === undefined) {
      queue.end(entry);
      return true;
    }
    const untold = error instanceof BatchFailed || interrupted || run.abandon.aborted;
    if (held.halted !== undefined && !entry.parked && (untold || queue.isBehind(entry))) {
      // The entry is read again when reading continues.
      entry.dropped = true;
      queue.end(entry);
      return true;
    }
    // An earlier entry of its lane in the same batch has failed, so this one counts as not handled.
    if (queue.comesAgain(entry)) return true;
    const reason = error instanceof Unsure ? error.cause : error;
    if (error instanceof Unsure || this.#isFenced(error)) {
      // What is stored decides whether the entry is done.
      entry.dropped = !entry.parked;
      logger.warn(
        "{consumer}: could not learn whether notification {id} is stored as done: {reason}",
        {
          consumer: options.identity.consumer,
          id: entry.id,
          reason: messageOf(reason),
        },
      );
      held.lose(translate(reason));
      state.halt(held, "unsure");
      for (const other of state.waiting.values()) {
        if (other.partition === held.number && other.startedAt === 0) other.dropped = true;
      }
      queue.drop((n) => n === held.number, true);
      queue.end(entry);
      return true;
    }
    if (untold) return false;
    const row = entry.wait;
    if (row?.discarded) {
      this.#discarded(entry);
      return true;
    }
    const extraUntil = row?.extraUntil;
    if (extraUntil === undefined) entry.attempts++;
    const next = verdict(error, entry.attempts, options);
    const facts = {
      consumer: options.identity.consumer,
      id: entry.id,
      attempt: entry.attempts,
      reason: next.reason,
      error,
    };
    void this.#report("onError", () => options.hooks.onError?.(error, notification));
    if (next.kind === "dead") {
      this.#bury(entry, notification, error, next.reason);
      queue.end(entry);
      return true;
    }
    const now = performance.now();
    const wait = row?.again
      ? 0
      : extraUntil !== undefined && !next.asked
      ? Math.max(0, Math.round(extraUntil - now))
      : next.wait;
    if (row !== undefined) {
      row.again = false;
      row.extraUntil = undefined;
    }
    logger.error(
      "{consumer}: notification {id} failed at attempt {attempt}, next attempt in {wait} ms: {reason}",
      { ...facts, wait },
    );
    const due = now + wait;
    entry.settled = true;
    state.park(entry, "failed", due, next.reason);
    queue.wait(entry, due);
    return true;
  }

  #isFenced(error: unknown): boolean {
    return this.#state.options.identity.transactional &&
      (error as { code?: unknown } | undefined)?.code === "FENCED";
  }

  /** Ends an entry that was discarded while its handler ran. */
  #discarded(entry: Entry): void {
    const { options, outcomes, queue } = this.#state;
    logger.info("{consumer}: notification {id} failed once more and is discarded, as was asked", {
      consumer: options.identity.consumer,
      id: entry.id,
    });
    entry.settled = true;
    outcomes.set(entry.id, { kind: "end", entry });
    this.#state.unpark(entry);
    this.#state.letGo(entry);
    queue.end(entry);
  }

  #bury(entry: Entry, notification: Notification, error: unknown, reason: string): void {
    const { consumer } = this.#state.options.identity;
    logger.error(
      "{consumer}: notification {id} became a dead letter after attempt {attempts}: {reason}",
      { consumer, id: entry.id, attempts: entry.attempts, reason, error },
    );
    this.#state.outcomes.set(entry.id, { kind: "dead", entry, error: reason });
    entry.settled = true;
    this.#state.unpark(entry);
    this.#state.letGo(entry);
    const { onDeadLetter } = this.#state.options.hooks;
    void this.#report("onDeadLetter", () => onDeadLetter?.(error, notification));
  }

  async #report(name: string, call: () => unknown): Promise<void> {
    try {
      await call();
    } catch (error) {
      logger.error("{consumer}: the hook {hook} failed: {reason}", {
        hook: name,
        consumer: this.#state.options.identity.consumer,
        reason: messageOf(error),
        error,
      });
    }
  }
}
