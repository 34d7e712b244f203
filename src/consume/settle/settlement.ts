/**
 * What happens to notifications after their handlers were called.
 *
 * @module
 */

import { getLogger, settled } from "../../log/logger.ts";
import { messageOf, translate } from "../../database/translate.ts";
import { aDay } from "../../duration.ts";
import { count, type ObservedCall, ofConsumer } from "../../observe/seam.ts";
import { Notification } from "../notification.ts";
import { verdict } from "../retry.ts";
import type { Entry } from "../state/entry.ts";
import type { State } from "../state/state.ts";
import { type Batch, BatchFailed, type Result, Unsure } from "../state/work.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * After how long, in milliseconds, a worker tries again what needs a newer one. It is the same
 * program by then. A newer worker tries at once when it claims the partition.
 */
const newerWait = 2 * aDay; // longer than any pollInterval, so that no drain waits for it

/** Decides what to store for each notification, and which entry may come next. */
export class Settlement {
  readonly #state: State;
  /** How many attempts have failed and will be repeated. */
  failed = 0;
  /** How many notifications became dead letters. */
  dead = 0;

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
    // No entry after it has crashed a worker, so for those entries no crash counts.
    held.tail = 0;
    const error = new Error(`its worker crashed ${held.crashes} times`);
    this.#giveUp(entry, error, entry.attempts + held.crashes);
    return true;
  }

  #giveUp(entry: Entry, error: Error, attempts: number): void {
    const notification = new Notification(entry.row!, Math.max(1, attempts));
    this.#bury(entry, notification, error, attempts, error.message);
  }

  /** Processes the results of handlers that have returned or thrown. */
  told(work: Batch, results: readonly Result[]): void {
    const { entries: all } = this.#state;
    const { entries } = work;
    if (entries.length === 1 && results[0] === undefined) {
      all.settle(entries[0]!);
      this.#succeeded(work, 0);
      return;
    }
    if (entries.length > 1 && this.#state.options.concurrency > 1) {
      all.queue.putBehind(followers(entries));
    }
    const failedLanes = new Set<string>();
    const failed = entries.map((entry, i) => {
      const fails = results[i] !== undefined ||
        entry.lane !== undefined && failedLanes.has(entry.lane);
      if (fails && entry.lane !== undefined) failedLanes.add(entry.lane);
      // Before any outcome, so that no settled entry is taken for one that is still to be handled.
      if (!fails) all.settle(entry);
      return fails;
    });
    // The signals as they were when the call began. A partition that was lost for a moment has a
    // new signal by now.
    const interrupted = work.signals.some((signal) => signal.aborted);
    const again: Entry[] = [];
    const rolledBack = new Set<string>();
    for (const [i, entry] of entries.entries()) {
      const notification = work.notifications[i]!;
      if (entry.lane !== undefined && results[i]?.error instanceof BatchFailed) {
        rolledBack.add(entry.lane);
      }
      if (!failed[i]) {
        this.#succeeded(work, i);
        continue;
      }
      // One that did not fail itself comes again, even if the one before it is given up.
      const isBehind = results[i] === undefined ||
        entry.lane !== undefined && rolledBack.has(entry.lane);
      const error = isBehind ? new BatchFailed() : results[i]?.error;
      if (!this.#failed(entry, notification, error, interrupted, work.observed)) again.push(entry);
    }
    if (again.length > 0) all.repeat(again);
  }

  #succeeded(work: Batch, i: number): void {
    const entry = work.entries[i]!;
    const { startedAt } = entry;
    const { hooks, identity } = this.#state.options;
    if (entry.wait !== undefined) settled(identity.consumer, entry.id);
    this.#state.entries.succeed(entry);
    if (hooks.onHandled === undefined) return;
    const notification = work.notifications[i]!;
    const handled = {
      result: work.returned,
      attempt: notification.attempt,
      milliseconds: Math.max(0, performance.now() - startedAt),
    };
    void this.#report("onHandled", () => hooks.onHandled?.(notification, handled));
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
    observed: ObservedCall | undefined,
  ): boolean {
    const { options, partitions, run, entries } = this.#state;
    const held = partitions.get(entry.partition);
    const untold = error instanceof BatchFailed || interrupted || run.abandon.aborted;
    // Unless one of the outcomes below is told instead.
    observed?.outcome(
      notification,
      error instanceof BatchFailed || entries.queue.isBehind(entry) ? "behind" : "interrupted",
      error,
    );
    if (
      entry.phase === "dropped" || held === undefined ||
      // The entry is read again when reading continues.
      held.halted !== undefined && !entry.stored && (untold || entries.queue.isBehind(entry))
    ) {
      entries.drop(entry);
      return true;
    }
    const isUnsure = error instanceof Unsure || this.#isFenced(error);
    const { wait } = entry;
    // Also if it is not to blame, and would be called again.
    if (wait?.discarded && !isUnsure) {
      logger.info("{consumer}: notification {id} was not handled and is discarded, as was asked", {
        consumer: options.identity.consumer,
        id: entry.id,
      });
      settled(options.identity.consumer, entry.id);
      observed?.outcome(notification, "discarded", error);
      entries.finish(entry, true);
      return true;
    }
    // An earlier entry of its lane in the same batch has failed, so this one counts as not handled.
    if (entries.comesAgain(entry)) return true;
    if (isUnsure) {
      const reason = error instanceof Unsure ? error.cause : error;
      observed?.outcome(notification, "unsure", reason);
      logger.warn(
        "{consumer}: could not learn whether notification {id} is stored as done: {reason}",
        { consumer: options.identity.consumer, id: entry.id, reason: messageOf(reason) },
      );
      held.lose(translate(reason));
      entries.unsure(entry, held, () => this.#state.halt(held, "unsure"));
      return true;
    }
    if (untold) return false;
    const attempt = entry.attempts + (wait?.extraUntil === undefined ? 1 : 0);
    const next = verdict(error, attempt, options, notification);
    if (next.kind === "newer") {
      observed?.outcome(notification, "newer", error);
      this.#leaveToNewer(entry, next.reason);
      return true;
    }
    if (next.kind === "postponed") {
      const due = performance.now() + (wait?.again ? 0 : next.wait);
      entries.retry(entry, entry.attempts, due, next.reason);
      return true;
    }
    void this.#report("onError", () => options.hooks.onError?.(error, notification));
    observed?.outcome(notification, next.kind === "dead" ? "dead_letter" : "retry", error);
    if (next.kind === "dead") {
      this.#bury(entry, notification, error, attempt, next.reason);
      return true;
    }
    if (next.problem !== undefined) {
      logger.error(
        "{consumer}: the function retry could not decide about notification {id}, which waits as by default: {reason}",
        { consumer: options.identity.consumer, id: entry.id, reason: next.problem },
      );
    }
    const now = performance.now();
    const pause = wait?.again
      ? 0
      : wait?.extraUntil !== undefined && !next.asked
      ? Math.max(0, Math.round(wait.extraUntil - now))
      : next.wait;
    logger.error(
      "{consumer}: notification {id} failed at attempt {attempt}, next attempt in {wait} ms: {reason}",
      {
        consumer: options.identity.consumer,
        id: entry.id,
        attempt: notification.attempt, // as its handler was told, also if the attempt does not count
        reason: next.reason,
        error,
        wait: pause,
      },
    );
    this.failed++;
    count("hark.consumer.retries", 1, ofConsumer(options.identity.consumer));
    entries.retry(entry, attempt, now + pause, next.reason);
    return true;
  }

  #leaveToNewer(entry: Entry, reason: string): void {
    const { options, entries } = this.#state;
    logger.warn(
      "{consumer}: notification {id} waits, with its key, for a worker of a newer program: {reason}",
      { consumer: options.identity.consumer, id: entry.id, reason },
    );
    this.#state.leftToNewer = true;
    const due = performance.now() + (entry.wait?.again ? 0 : newerWait);
    entries.retry(entry, entry.attempts, due, reason, "newer");
  }

  #isFenced(error: unknown): boolean {
    return this.#state.options.identity.transactional &&
      (error as { code?: unknown } | undefined)?.code === "FENCED";
  }

  #bury(
    entry: Entry,
    notification: Notification,
    error: unknown,
    attempts: number,
    reason: string,
  ): void {
    const { consumer } = this.#state.options.identity;
    settled(consumer, entry.id);
    count("hark.consumer.dead_letters", 1, ofConsumer(consumer));
    logger.error(
      "{consumer}: notification {id} became a dead letter after attempt {attempts}: {reason}",
      { consumer, id: entry.id, attempts, reason, error },
    );
    this.dead++;
    this.#state.entries.bury(entry, attempts, reason);
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

/** The entries of a batch that were taken from behind another one. */
function followers(entries: readonly Entry[]): Entry[] {
  const heads = new Set<string>();
  return entries.filter((entry) => {
    if (entry.lane === undefined) return false;
    if (heads.has(entry.lane)) return true;
    heads.add(entry.lane);
    return false;
  });
}
