/**
 * Calls the handlers of what is ready, and decides what becomes of each notification.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { messageOf, translate } from "../database/translate.ts";
import { type Attempts, BatchFailed, type Result } from "./attempt.ts";
import type { HeldPartition } from "./held.ts";
import { Notification } from "./notification.ts";
import { verdict } from "./outcomes.ts";
import type { Entry } from "./queue.ts";
import { isThenable } from "./settle.ts";
import type { State } from "./state.ts";
import { Unsure } from "./transactions.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long handlers that return at once are called in a row before timers and sockets get their turn. */
const slice = 20;

/** Starts handlers, at most so many at a time. */
export class Dispatcher {
  readonly #state: State;
  readonly #attempts: Attempts;
  /** Remembers, before an entry is handled alone, which it is. */
  readonly #trying: (held: HeldPartition, id: number) => Promise<void>;
  /** Whether it is certain at a time that this worker still serves what it holds. */
  readonly #certain: (now: number) => boolean;
  /** Of how many handlers results are awaited; a batch counts as one. */
  #calls = 0;
  #alone = false;
  #pumping = false;
  /** Whether new handlers may be started. */
  open = false;
  /** Whether the next may only be started when all that was done before is stored. */
  wantsStoring = false;

  constructor(
    state: State,
    attempts: Attempts,
    certain: (now: number) => boolean,
    trying: (held: HeldPartition, id: number) => Promise<void>,
  ) {
    this.#state = state;
    this.#attempts = attempts;
    this.#certain = certain;
    this.#trying = trying;
  }

  /** Whether no handler runs. */
  get idle(): boolean {
    return this.#calls === 0;
  }

  /** Whether a handler could be started if there were something to handle. */
  get hasRoom(): boolean {
    const { options, run } = this.#state;
    return this.open && !run.stopping.aborted && !this.#alone &&
      this.#calls < options.concurrency && this.#state.unacknowledged < options.acknowledgeCount;
  }

  /** Starts what can be started. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      const until = performance.now() + slice;
      while (this.hasRoom) {
        const now = performance.now();
        if (now > until) {
          this.#state.run.wake.ring();
          return;
        }
        if (!this.#certain(now)) return;
        const batch = this.#next();
        if (batch === undefined) return;
        this.#start(batch, now);
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** What is to be handled next, together; undefined where nothing is, or not yet. */
  #next(): Entry[] | undefined {
    const { queue, options } = this.#state;
    let first: Entry | undefined;
    while ((first = queue.peek()) !== undefined) {
      if (first.alone && this.#calls > 0) return undefined;
      if (!this.#isHopeless(first)) break;
      queue.take();
    }
    if (first === undefined) return undefined;
    // So that it is the first that whoever takes over begins with.
    this.wantsStoring = first.alone &&
      (this.#state.unacknowledged > 0 || this.#state.outcomes.size > 0);
    if (this.wantsStoring) return undefined;
    const batch = [queue.take()!];
    if (first.alone || options.batchSize === 1) return batch;
    while (batch.length < options.batchSize) {
      const behind = queue.takeBehind(batch.at(-1)!, options.batchSize - batch.length);
      if (behind.length > 0) {
        batch.push(...behind);
        continue;
      }
      const next = queue.peek();
      if (next === undefined || next.alone || next.row!.payload === null) break;
      batch.push(queue.take()!);
    }
    return batch;
  }

  #start(entries: Entry[], now: number): void {
    const state = this.#state;
    const held: HeldPartition[] = [];
    for (const entry of entries) {
      entry.startedAt = now;
      const partition = state.partitions.get(entry.partition)!;
      partition.running++;
      if (!held.includes(partition)) held.push(partition);
      state.running.add(entry);
    }
    const notifications = entries.map((entry) => new Notification(entry.row!, entry.attempts + 1));
    const work = { entries, notifications, held, signals: held.map((h) => h.signal) };
    this.#calls++;
    if (entries[0]!.alone) {
      this.#alone = true;
      void this.#awaited(work, this.#startAlone(work));
      return;
    }
    const results = this.#attempts.run(work);
    if (isThenable(results)) void this.#awaited(work, results);
    else this.#ended(work, results);
  }

  async #startAlone(work: Batch): Promise<readonly Result[]> {
    await this.#trying(work.held[0]!, work.entries[0]!.id);
    return await this.#attempts.run(work);
  }

  async #awaited(work: Batch, running: Promise<readonly Result[]>): Promise<void> {
    let results: readonly Result[];
    try {
      results = await running;
    } catch (error) {
      // It could not be remembered that it would be tried, so it was not; the worker looks why.
      this.open = false;
      logger.warn("{consumer}: {reason}", {
        consumer: this.#state.options.identity.consumer,
        reason: messageOf(error),
      });
      results = work.entries.map(() => ({ error: new BatchFailed() }));
    }
    this.#ended(work, results);
    this.pump();
    this.#state.run.wake.ring();
  }

  /** What cannot be handled is given up without being tried. */
  #isHopeless(entry: Entry): boolean {
    const { options, partitions } = this.#state;
    const held = partitions.get(entry.partition)!;
    if (entry.row!.payload === null) {
      this.#giveUp(
        entry,
        new Error("its payload cannot be read: it is over 64 MB, or over 256 MB as text"),
        0,
      );
      return true;
    }
    // Twice, as whoever is ended by somebody else always has something in hand.
    const found = held.suspectId === entry.id && held.suspectEnds >= 2;
    if (!found || held.crashes < options.maxCrashes) return false;
    held.suspectId = undefined;
    const attempts = Math.max(entry.attempts, held.crashes);
    // Those after it start with a clean slate: they have not been found to end anything.
    held.tail = 0;
    this.#giveUp(
      entry,
      new Error(`the worker that handled it ended without a word, ${attempts} times`),
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

  #ended(work: Batch, results: readonly Result[]): void {
    const state = this.#state;
    this.#calls--;
    this.#alone = false;
    for (const entry of work.entries) state.running.delete(entry);
    for (const held of work.held) {
      held.running -= work.entries.filter((e) => e.partition === held.number).length;
    }
    const { entries } = work;
    if (entries.length === 1 && results[0] === undefined) {
      const entry = entries[0]!;
      if (!entry.dropped) entry.settled = true;
      this.#succeeded(entry, work.notifications[0]!);
      entry.startedAt = 0;
      return;
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
    // As they were when it began: a partition that was lost for a moment has another signal now.
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

  /** Those of a batch that were taken from behind another one. */
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

  /** @returns whether that is told: false where it is to be called again as if nothing had been. */
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
      // It is read again, when reading goes on.
      entry.dropped = true;
      queue.end(entry);
      return true;
    }
    // An earlier one of its lane in the same batch has failed, so it counts as not handled.
    if (queue.comesAgain(entry)) return true;
    const reason = error instanceof Unsure ? error.cause : error;
    if (error instanceof Unsure || this.#isFenced(error)) {
      // What is stored will tell.
      entry.dropped = !entry.parked;
      logger.warn("{consumer}: it is unsure whether notification {id} is done: {reason}", {
        consumer: options.identity.consumer,
        id: entry.id,
        reason: messageOf(reason),
      });
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
    entry.attempts++;
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
    logger.error(
      "{consumer}: notification {id} failed at attempt {attempt}, next in {wait} ms: {reason}",
      { ...facts, wait: next.wait },
    );
    const due = performance.now() + next.wait;
    entry.settled = true;
    state.park(entry, "failed", due, next.reason);
    queue.wait(entry, due);
    return true;
  }

  #isFenced(error: unknown): boolean {
    return this.#state.options.identity.transactional &&
      (error as { code?: unknown } | undefined)?.code === "FENCED";
  }

  #bury(entry: Entry, notification: Notification, error: unknown, reason: string): void {
    const { consumer } = this.#state.options.identity;
    logger.error(
      "{consumer}: notification {id} is a dead letter after {attempts} attempts: {reason}",
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
      logger.error("{hook} of {consumer} failed itself: {reason}", {
        hook: name,
        consumer: this.#state.options.identity.consumer,
        reason: messageOf(error),
        error,
      });
    }
  }
}

interface Batch {
  readonly entries: readonly Entry[];
  readonly notifications: readonly Notification[];
  readonly held: readonly HeldPartition[];
  readonly signals: readonly AbortSignal[];
}
