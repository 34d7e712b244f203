/**
 * Runs a consumer in this process, one run at a time.
 *
 * @module
 */

import { abortSignal, knownOptions } from "../check.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import { getLogger, printLeftOut } from "../log/logger.ts";
import type { RunOptions } from "./options.ts";
import type { CheckedOptions } from "./state/context.ts";
import { supervise } from "./worker/supervisor.ts";

const logger = getLogger(["hark", "consumer"]);

/** A run that has ended. */
interface Ended {
  readonly consumer: string;
  readonly handled: number;
}

/** The runs of one Consumer object. */
export class Runner {
  readonly #db: Queryable;
  readonly #checked: () => CheckedOptions;
  #running: { readonly stop: AbortController; readonly done: Promise<unknown> } | undefined;
  #ready = new Readiness();

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

  /** Ends the run, if there is one. */
  async stop(): Promise<void> {
    const running = this.#running;
    running?.stop.abort();
    await running?.done.catch(() => {}); // run() and drain() report their own errors
  }

  /** Runs until stopped or drained. Returns how many notifications were handled. */
  async run(options: RunOptions, drain: boolean): Promise<number> {
    if (this.#running === undefined && this.#ready.isSettled) this.#ready = new Readiness();
    const ready = this.#ready;
    try {
      const { consumer, handled } = await this.#run(options, drain, () => ready.resolve());
      if (drain) ready.resolve();
      else ready.reject(stoppedBefore(consumer));
      return handled;
    } catch (error) {
      // A second call is refused while the first one still runs.
      if (this.#running === undefined) ready.reject(error);
      throw error;
    } finally {
      printLeftOut();
    }
  }

  async #run(options: RunOptions, drain: boolean, ready: () => void): Promise<Ended> {
    knownOptions(drain ? "drain" : "run", options, ["signal"]);
    abortSignal("signal", options.signal);
    const worker = this.#checked();
    const { consumer } = worker.identity;
    if (this.#running !== undefined) {
      throw new HarkError("CONFLICT", `consumer "${consumer}" is already running`, {
        remedy: "Stop it first, or make another Consumer object.",
      });
    }
    const stop = new AbortController();
    const abandon = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    stop.signal.addEventListener("abort", () => {
      timer = setTimeout(() => {
        logger.warn(
          "{consumer}: a handler still runs {timeout} ms after the stop; its notification will be handled again",
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
    options.signal?.addEventListener("abort", abort, { once: true });
    const done = supervise(this.#db, worker, {
      drain,
      stopping: stop.signal,
      abandon: abandon.signal,
      ready,
    });
    this.#running = { stop, done };
    const forget = connectionsOf(this.#db)?.beforeClose(
      () => this.stop(),
      () => stop.signal.aborted ? undefined : `consumer "${consumer}"`,
    );
    try {
      return { consumer, handled: await done };
    } finally {
      forget?.();
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", abort);
      this.#running = undefined;
    }
  }
}

/** A promise that a run is ready. */
class Readiness {
  readonly #settling = Promise.withResolvers<void>();
  readonly promise: Promise<void> = this.#settling.promise;
  isSettled = false;

  constructor() {
    this.promise.catch(() => {}); // most programs never read it, and run() rejects as well
  }

  resolve(): void {
    this.isSettled = true;
    this.#settling.resolve();
  }

  reject(reason: unknown): void {
    this.isSettled = true;
    this.#settling.reject(reason);
  }
}

function stoppedBefore(consumer: string): HarkError {
  return new HarkError("CONFLICT", `consumer "${consumer}" was stopped before it was ready`, {
    remedy: "Run it again, or stop it later.",
  });
}
