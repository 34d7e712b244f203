/**
 * Calls the handlers for entries that are ready.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { messageOf, readable } from "../../database/translate.ts";
import { seam } from "../../observe/seam.ts";
import { Notification } from "../notification.ts";
import { type Entry, nextAttempt } from "../state/entry.ts";
import type { OwnedPartition } from "../state/partition.ts";
import type { State } from "../state/state.ts";
import { type Batch, BatchFailed, type Result } from "../state/work.ts";
import { isThenable } from "./await_result.ts";
import type { HandlerCalls } from "./handler_call.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * How long handlers that return synchronously are called in a row before timers and sockets get a
 * turn, in milliseconds.
 */
const slice = 20;
/** The same for handlers that are called while more is read, before all keys take turns. */
const sliceBeside = 5;

/** Decides what follows from a handler's result: see Settlement. */
export interface Settles {
  /** Gives up an entry that cannot be handled. Returns whether it did. */
  isHopeless(entry: Entry): boolean;
  /** Processes the results of handlers that have returned or thrown. */
  told(work: Batch, results: readonly Result[]): void;
}

/** Starts handlers, at most `concurrency` at a time. */
export class Dispatcher {
  readonly #state: State;
  readonly #handlers: HandlerCalls;
  readonly #settlement: Settles;
  /** Stores the id of an entry before it is handled alone, so that a crash can be traced to it. */
  readonly #beginAlone: (held: OwnedPartition, id: number) => Promise<void>;
  /** Whether, at a given time, this worker certainly still serves its partitions. */
  readonly #certain: (now: number) => boolean;
  /** How many handler calls are awaited. A batch counts as one. */
  #calls = 0;
  #alone = false;
  /** Whether the next entry must be handled alone and waits for running handlers to end. */
  #waits = false;
  #pumping = false;
  #clock = { tick: NaN, now: 0 };
  /** For how many notifications a handler was called. Each attempt counts. */
  begun = 0;
  /** Whether new handlers may start. */
  open = false;
  /**
   * Whether handlers wait until more has been read, so that all keys take turns. Those that return
   * synchronously wait only if they are slow. If all waited, all that is read would stay in memory for
   * long, and the worker would handle nothing while the server reads.
   */
  held = false;
  /** Whether the handler that was called last has returned a promise. */
  #awaits = false;
  /** Whether everything done so far must be stored before the next handler starts. */
  wantsStoring = false;

  constructor(
    state: State,
    attempts: HandlerCalls,
    results: Settles,
    certain: (now: number) => boolean,
    trying: (held: OwnedPartition, id: number) => Promise<void>,
  ) {
    this.#state = state;
    this.#handlers = attempts;
    this.#settlement = results;
    this.#certain = certain;
    this.#beginAlone = trying;
  }

  /** Whether no handler runs. */
  get idle(): boolean {
    return this.#calls === 0;
  }

  /** How many handlers run. One that was given a batch counts once. */
  get calls(): number {
    return this.#calls;
  }

  /** Whether a handler could start if an entry were ready. */
  get hasRoom(): boolean {
    const { options, run } = this.#state;
    return this.open && !run.stopping.aborted && !this.#alone && !this.#waits &&
      this.#calls < options.concurrency &&
      this.begun < run.limit &&
      this.#state.toStore < options.acknowledgeCount;
  }

  /**
   * The time in whole milliseconds. Asking the exact clock for each notification would take as long as
   * the rest of its dispatch, and a number with fractions would be an object of its own.
   */
  #now(): number {
    const tick = Date.now();
    if (tick !== this.#clock.tick) {
      this.#clock.tick = tick;
      this.#clock.now = Math.ceil(performance.now());
    }
    return this.#clock.now;
  }

  /** Starts handlers while there are ready entries and free slots. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      const until = this.#now() + (this.held ? sliceBeside : slice);
      while (this.hasRoom && !(this.held && this.#awaits)) {
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

  /** Takes the next entry or batch to handle. Undefined if there is none, or not yet. */
  #next(): Entry[] | undefined {
    const { options, run, entries: { queue, unacknowledged, rows: { outcomes } } } = this.#state;
    let first: Entry | undefined;
    while ((first = queue.peek()) !== undefined) {
      if (first.alone && this.#calls > 0) {
        this.#waits = true;
        return undefined;
      }
      if (!this.#settlement.isHopeless(first)) break;
      // Giving an entry up may already have dropped it, along with others.
      if (queue.peek() === first) queue.take();
    }
    if (first === undefined) return undefined;
    // Store all earlier progress first. A worker that takes over then begins with this entry.
    this.wantsStoring = first.alone && (unacknowledged > 0 || outcomes.size > 0);
    if (this.wantsStoring) return undefined;
    const most = Math.min(options.batchSize, run.limit - this.begun);
    const batch = [queue.take()!];
    // A notification that has failed before is handled alone. Otherwise one that always fails would
    // make its whole batch fail each time.
    if (first.alone || nextAttempt(first) > 1 || most === 1) return batch;
    while (batch.length < most) {
      const behind = queue.takeBehind(batch.at(-1)!, most - batch.length);
      if (behind.length > 0) {
        batch.push(...behind);
        continue;
      }
      const next = queue.peek();
      if (next === undefined || next.alone || nextAttempt(next) > 1 || next.row!.payload === null) {
        break;
      }
      batch.push(queue.take()!);
    }
    return batch;
  }

  #start(entries: Entry[], now: number): void {
    const { run, options } = this.#state;
    const held = this.#state.entries.begin(entries, now);
    const notifications = entries.map(notificationOf);
    const observed = seam.observer?.handle({
      run: run.observed,
      partition: held.length === 1 ? held[0]!.number : undefined,
      notifications,
      isBatch: options.handling.handle === undefined,
    });
    const work: Batch = {
      entries,
      notifications,
      held,
      signals: held.map(signalOf),
      certain: this.#certain,
      observed,
      returned: undefined,
    };
    this.#calls++;
    this.begun += entries.length;
    if (entries[0]!.alone) {
      this.#alone = true;
      void this.#awaited(work, this.#startAlone(work));
      return;
    }
    const results = this.#call(work);
    this.#awaits = isThenable(results);
    if (isThenable(results)) void this.#awaited(work, results);
    else this.#ended(work, results);
  }

  async #startAlone(work: Batch): Promise<readonly Result[]> {
    await this.#beginAlone(work.held[0]!, work.entries[0]!.id);
    return await this.#call(work);
  }

  #call(work: Batch): readonly Result[] | Promise<readonly Result[]> {
    const { observed } = work;
    return observed === undefined
      ? this.#handlers.run(work)
      : observed.run(() => this.#handlers.run(work));
  }

  async #awaited(work: Batch, running: Promise<readonly Result[]>): Promise<void> {
    this.#state.entries.awaits(work);
    let results: readonly Result[];
    try {
      results = await running;
    } catch (error) {
      // The id could not be stored before the attempt, so the handler was not called. The worker
      // finds out why.
      this.open = false;
      logger.warn("{consumer}: {reason}", {
        consumer: this.#state.options.identity.consumer,
        reason: messageOf(error),
      });
      results = work.entries.map(() => ({ error: new BatchFailed() }));
    }
    this.#state.entries.returned(work);
    this.#ended(work, results);
    this.pump();
    this.#state.run.wake.ring();
  }

  #ended(work: Batch, results: readonly Result[]): void {
    this.#calls--;
    this.#alone = this.#waits = false;
    const read = results.some(isFailure)
      ? results.map((one) => one && { ...one, error: readable(one.error) })
      : results;
    this.#settlement.told(work, read);
    work.observed?.ended(read);
  }
}

// Here, because each evaluation of a function expression would take memory, for each notification.
const notificationOf = (entry: Entry) => new Notification(entry.row!, nextAttempt(entry));
const signalOf = ({ signal }: OwnedPartition) => signal;
const isFailure = (result: Result) => result !== undefined;
