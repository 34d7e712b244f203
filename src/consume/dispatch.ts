/**
 * Calls the handlers of what is ready.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { messageOf } from "../database/translate.ts";
import { type Attempts, BatchFailed, type Result } from "./attempt.ts";
import type { HeldPartition } from "./held.ts";
import { Notification } from "./notification.ts";
import type { Entry } from "./queue.ts";
import { type Batch, Results } from "./results.ts";
import { isThenable } from "./settle.ts";
import type { State } from "./state.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long handlers that return at once are called in a row before timers and sockets get their turn. */
const slice = 20;

/** Starts handlers, at most so many at a time. */
export class Dispatcher {
  readonly #state: State;
  readonly #attempts: Attempts;
  readonly #results: Results;
  /** Remembers, before an entry is handled alone, which it is. */
  readonly #trying: (held: HeldPartition, id: number) => Promise<void>;
  /** Whether it is certain at a time that this worker still serves what it holds. */
  readonly #certain: (now: number) => boolean;
  /** Of how many handlers results are awaited; a batch counts as one. */
  #calls = 0;
  #alone = false;
  /** Whether the next is to be handled alone, and waits for the others to end. */
  #waits = false;
  #pumping = false;
  #clock = { tick: NaN, now: 0 };
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
    this.#results = new Results(state);
    this.#certain = certain;
    this.#trying = trying;
  }

  /** Whether no handler runs. */
  get idle(): boolean {
    return this.#calls === 0;
  }

  /** How many handlers run; one that was given a batch counts once. */
  get calls(): number {
    return this.#calls;
  }

  /** Whether a handler could be started if there were something to handle. */
  get hasRoom(): boolean {
    const { options, run } = this.#state;
    return this.open && !run.stopping.aborted && !this.#alone && !this.#waits &&
      this.#calls < options.concurrency && this.#state.unacknowledged < options.acknowledgeCount;
  }

  /** The time to a millisecond: to ask for each notification would take as long as the rest of its dispatch. */
  #now(): number {
    const tick = Date.now();
    if (tick !== this.#clock.tick) {
      this.#clock.tick = tick;
      this.#clock.now = performance.now();
    }
    return this.#clock.now;
  }

  /** Starts what can be started. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      const until = this.#now() + slice;
      while (this.hasRoom) {
        const now = this.#now();
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
      if (first.alone && this.#calls > 0) {
        this.#waits = true;
        return undefined;
      }
      if (!this.#results.isHopeless(first)) break;
      // Giving it up may have dropped it, with others.
      if (queue.peek() === first) queue.take();
    }
    if (first === undefined) return undefined;
    // So that it is the first that whoever takes over begins with.
    this.wantsStoring = first.alone &&
      (this.#state.unacknowledged > 0 || this.#state.outcomes.size > 0);
    if (this.wantsStoring) return undefined;
    const batch = [queue.take()!];
    // What has failed before comes by itself, so that what fails for ever takes no others with it.
    if (first.alone || first.attempts > 0 || options.batchSize === 1) return batch;
    while (batch.length < options.batchSize) {
      const behind = queue.takeBehind(batch.at(-1)!, options.batchSize - batch.length);
      if (behind.length > 0) {
        batch.push(...behind);
        continue;
      }
      const next = queue.peek();
      if (next === undefined || next.alone || next.attempts > 0 || next.row!.payload === null) {
        break;
      }
      batch.push(queue.take()!);
    }
    return batch;
  }

  #start(entries: Entry[], now: number): void {
    const state = this.#state;
    const held: HeldPartition[] = [];
    const notifications: Notification[] = [];
    const signals: AbortSignal[] = [];
    for (const entry of entries) {
      entry.startedAt = now;
      const partition = state.partitions.get(entry.partition)!;
      partition.running++;
      if (!held.includes(partition)) {
        held.push(partition);
        signals.push(partition.signal);
      }
      state.running.add(entry);
      notifications.push(new Notification(entry.row!, entry.attempts + 1));
    }
    const work = { entries, notifications, held, signals };
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

  #ended(work: Batch, results: readonly Result[]): void {
    this.#calls--;
    this.#alone = this.#waits = false;
    this.#results.told(work, results);
  }
}
