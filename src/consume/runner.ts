/**
 * Runs a consumer in this process, one run at a time.
 *
 * @module
 */

import { Joined } from "../aborted.ts";
import { abortSignal } from "../check.ts";
import { Bell, pause } from "../database/bell.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import { getLogger, printLeftOut } from "../log/logger.ts";
import { checkedValues } from "../option_rules.ts";
import { drainRules, runRules } from "./option_table.ts";
import { Readiness } from "./readiness.ts";
import type { DrainOptions } from "./run_options.ts";
import type { CheckedOptions, Tally } from "./state/context.ts";
import { type Cutting, notStored, supervise } from "./worker/supervisor.ts";

const logger = getLogger(["hark", "consumer"]);

/** A run that has ended. */
export interface Ended extends Tally {
  readonly consumer: string;
  /** Whether the deadline has ended it. */
  readonly late: boolean;
}

/** How long before its deadline a drain starts no further handler: a tenth, and at most this, in ms. */
const longestReserve = 1000;
/**
 * How long after its deadline a drain may still store progress and give its partitions back, in ms. Then it
 * returns, whatever is under way.
 */
const grace = 100;
/** How long a drain waits for one that was cut off at its deadline, in ms. A statement takes no longer. */
const longestRest = 10_000;

/** A run that has not ended. */
interface Running {
  readonly stop: AbortController;
  readonly done: Promise<unknown>;
  /** Whether its caller has been told how it went, though a statement is still under way. */
  isCutOff: boolean;
}

/** The runs of one Consumer object. */
export class Runner {
  readonly #db: Queryable;
  readonly #checked: () => CheckedOptions;
  #running: Running | undefined;
  /** How often it was asked to stop. */
  #stops = 0;
  #ready = new Readiness();
  /** Has the run look at the log. Undefined while there is none. */
  #look: (() => void) | undefined;

  /** @param checked Gives the options, checked and complete, as they are when a run begins. */
  constructor(db: Queryable, checked: () => CheckedOptions) {
    this.#db = db;
    this.#checked = checked;
  }

  /** See {@linkcode Consumer.ready}. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Checks all options, as a run would. */
  check(): void {
    this.#checked();
  }

  /**
   * Has the run look at the log, and wakes it if it sleeps. Returns false if there is no run, or one that
   * is stopping.
   */
  wake(): boolean {
    if (this.#running?.stop.signal.aborted) return false;
    this.#look?.();
    return this.#look !== undefined;
  }

  /** Ends the run, if there is one. */
  async stop(): Promise<void> {
    this.#stops++;
    const running = this.#running;
    running?.stop.abort();
    await running?.done.catch(() => {}); // run() and drain() report their own errors
  }

  /** Runs until stopped or drained. */
  async run(options: DrainOptions, drain: boolean): Promise<Ended> {
    const isFree = this.#running === undefined || drain && this.#running.isCutOff;
    if (isFree && this.#ready.isSettled) this.#ready = new Readiness();
    const ready = this.#ready;
    try {
      if (drain && this.#running?.isCutOff) options = await this.#rest(options);
      const ended = await this.#run(options, drain, () => ready.resolve());
      if (drain) ready.resolve();
      else ready.stopped(`consumer "${ended.consumer}"`);
      return ended;
    } catch (error) {
      // A second call is refused while the first one still runs.
      if (this.#running === undefined || isFree && this.#running.isCutOff) ready.reject(error);
      throw error;
    } finally {
      printLeftOut();
    }
  }

  /** Waits for what is left of a drain that was cut off. Returns the options for the time that is left. */
  async #rest(options: DrainOptions): Promise<DrainOptions> {
    const { deadline = Infinity } = drainValues(options);
    const [begun, stops] = [performance.now(), this.#stops];
    const rested = new AbortController();
    const signals = options.signal === undefined ? [] : [options.signal];
    using over = new Joined(rested.signal, ...signals);
    await Promise.race([
      this.#running!.done.catch(() => {}), // the drain before has told its caller how it ended
      pause(Math.min(deadline, longestRest), over.signal),
    ]);
    rested.abort();
    const left = Math.max(1, Math.ceil(deadline - (performance.now() - begun)));
    return {
      ...options,
      ...(left < Infinity ? { deadline: left } : {}),
      ...(stops === this.#stops ? {} : { signal: AbortSignal.abort() }),
    };
  }

  async #run(options: DrainOptions, drain: boolean, ready: () => void): Promise<Ended> {
    if (!drain) checkedValues("run", runRules, options);
    const { limit, deadline, waits } = drainValues(options);
    const worker = withLimit(this.#checked(), limit);
    const { consumer } = worker.identity;
    if (this.#running !== undefined) {
      throw new HarkError("CONFLICT", `consumer "${consumer}" is already running`, {
        remedy: this.#running.isCutOff
          ? "A drain that its deadline has cut off still waits for the server. Drain again later."
          : "Stop it first, or make another Consumer object.",
      });
    }
    const stop = new AbortController();
    const abandon = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    stop.signal.addEventListener("abort", () => {
      timer = setTimeout(() => {
        logger.warn(
          "{consumer}: a handler still runs {timeout} ms after the stop; its notification will be handled again. A " +
            "handler must not await stop() or close(), which wait for it",
          {
            consumer,
            timeout: worker.stopTimeout,
          },
        );
        abandon.abort(new Error("the consumer is stopping"));
      }, worker.stopTimeout);
    }, { once: true });
    const abort = () => stop.abort();
    if (options.signal?.aborted) abort();
    let late = false;
    const timers = deadline === undefined ? [] : [
      setTimeout(() => {
        late = !stop.signal.aborted;
        stop.abort();
      }, deadline - Math.min(longestReserve, deadline / 10)),
      setTimeout(() => {
        logger.warn(
          "{consumer}: the drain is not over at its deadline; what handlers have in hand comes again",
          { consumer },
        );
        abandon.abort(new DOMException("the deadline of the drain has come", "TimeoutError"));
      }, deadline),
    ];
    options.signal?.addEventListener("abort", abort, { once: true });
    const wake = new Bell();
    const bell = new Bell(wake);
    if (!drain) this.#look = () => bell.ring();
    const over = new AbortController();
    const cutting: Cutting = { signal: over.signal };
    const done = supervise(this.#db, worker, {
      wake,
      bell,
      drain,
      limit,
      waits,
      stopping: stop.signal,
      abandon: abandon.signal,
      ready,
    }, deadline === undefined ? undefined : cutting);
    const running: Running = this.#running = { stop, done, isCutOff: false };
    const forget = connectionsOf(this.#db)?.beforeClose(
      () => this.stop(),
      () => stop.signal.aborted ? undefined : `consumer "${consumer}"`,
    );
    const ended = done.finally(() => {
      forget?.();
      if (this.#running === running) this.#running = this.#look = undefined;
    });
    try {
      if (deadline === undefined) return { consumer, ...await ended, late };
      const cut = Promise.withResolvers<undefined>();
      timers.push(setTimeout(() => cut.resolve(undefined), deadline + grace));
      const tally = await Promise.race([ended, cut.promise]);
      if (tally !== undefined) return { consumer, ...tally, late };
      ended.catch(() => {}); // it ends because it is cut off here
      over.abort();
      running.isCutOff = true;
      return { consumer, ...cutOff(consumer, cutting), late: true };
    } finally {
      clearTimeout(timer);
      timers.forEach(clearTimeout);
      options.signal?.removeEventListener("abort", abort);
    }
  }
}

/**
 * What a drain has done whose time is over, in the middle of a statement: a lock, or a silent server.
 *
 * @throws {HarkError} if it has handled something that is not stored.
 */
function cutOff(consumer: string, { progress }: Cutting): Tally {
  const unstored = progress?.unstored() ?? 0;
  if (unstored > 0) throw notStored(consumer, unstored);
  logger.warn(
    "{consumer}: at the deadline of the drain a statement was under way, which is cut off; the partitions may " +
      "be free only when the lease ends",
    { consumer },
  );
  const nothing = { handled: 0, failed: 0, dead: 0, left: 0, more: true, end: undefined };
  return progress?.tally() ?? nothing;
}

/** Checks the options of a drain. A run has a part of them. */
export function drainValues(options: DrainOptions) {
  const rules = { ...runRules, ...drainRules };
  const { limit = Infinity, deadline, wait } = checkedValues("drain", rules, options);
  abortSignal("signal", options.signal);
  return { limit, deadline, waits: wait };
}

/** Options that read no more than a few notifications ahead, as no more will be handled. */
function withLimit(options: CheckedOptions, limit: number): CheckedOptions {
  if (limit === Infinity) return options;
  const { limits } = options;
  return { ...options, limits: { ...limits, rows: Math.min(limits.rows, limit) } };
}
