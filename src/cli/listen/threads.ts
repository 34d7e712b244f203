/**
 * The workers of `hark listen --workers`: starts, watches, restarts and stops them.
 *
 * They are threads (Web Workers), not processes. A thread has the rights of the program and needs no
 * others. A process would need the right to run `deno`, and could then do everything. Threads also
 * work from JSR and in a compiled binary. What they cost, as seen with Deno 2.9:
 *
 * - An uncaught error, an unhandled rejection and Deno.exit end only their own thread, with its
 *   connections. The first two come as an event. The last comes as none, so `thread.ts` reports it.
 * - A thread that computes without a pause cannot be ended: `terminate()` leaves it running until the
 *   process ends. It is reported and not replaced, or such threads would pile up.
 * - A thread that runs out of memory (each has its own heap) ends the whole process, as with one
 *   worker. systemd or a container then restarts the process.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Database } from "../../database/database.ts";
import { pause } from "../../database/bell.ts";
import { HarkError } from "../../errors.ts";
import { exitCodeOf, exitCodes } from "../exit_codes.ts";
import { complain, printError } from "../print/output.ts";
import { visibleLines } from "../print/style.ts";
import { warnOfIdleWorkers } from "./idle_workers.ts";
import type { Measurements } from "../../metrics/monitor.ts";
import type { Series } from "../../metrics/registry.ts";
import { merged } from "../../metrics/text.ts";
import { Measured, sumsOnly } from "./measured.ts";
import type { Failure, Hire, Known, Order, Report, Work } from "./thread_messages.ts";

const logger = getLogger(["hark", "cli"]);

/** The wait before a worker is started again, in ms: the first and the longest. */
const initialWait = 500;
const longestWait = 30_000;
/** After a life of this many ms, the next wait is the first again. */
const healthy = 60_000;

/** How often a thread is asked for an answer, in ms. */
const pulse = 2000;
/** After this many questions without an answer it is reported. */
const silent = 15;
/** When stopping, after this many it is cut off: a little over the default `stopTimeout`. */
const stuck = 18;

/** How a thread ended. */
interface End {
  /** What happened, for people. */
  readonly reason: string;
  /** The failure, if it reported one. */
  readonly failure?: Failure;
  /** Whether its consumers had stopped and their progress was stored. */
  readonly orderly?: boolean;
}

/** One thread. */
class Thread {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #ended = Promise.withResolvers<End>();
  readonly #found = Promise.withResolvers<readonly Known[] | undefined>();
  readonly measured: Measured;
  /** Called when a failure is reported. With `removed`, that consumer is gone, and the thread goes on. */
  onFailure: (failure: Failure, removed?: string) => void = () => {};
  readonly #pulse: ReturnType<typeof setInterval>;
  #loaded = false;
  #stopping = false;
  #failure: Failure | undefined;
  #unanswered = 0;
  #over = false;

  constructor(readonly name: string, work: Work) {
    this.#worker = new Worker(new URL("./thread.ts", import.meta.url), { type: "module", name });
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.measured = new Measured(name, (order) => this.#tell(order));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault(); // or it would be an uncaught error of this thread
      const { message, filename, lineno } = event;
      const place = filename ? ` (${filename}:${lineno})` : "";
      const words = message.replace(/^Uncaught (\(in promise\) )?/, "");
      this.#end({ reason: `${words}${place}` });
    });
    port1.addEventListener("message", ({ data }: MessageEvent<Report>) => {
      if (this.#over) return;
      if (data.kind === "found") {
        this.#loaded = true;
        this.#found.resolve(data.consumers);
      } else if (data.kind === "failed") {
        if (data.removed === undefined) this.#failure ??= data.failure;
        this.onFailure(data.failure, data.removed);
      } else if (data.kind === "exit") this.#end({ reason: `it called ${data.call}` });
      else if (data.kind === "pong") this.#unanswered = 0;
      else if (data.kind === "measured") this.measured.take(data);
      else {
        this.#end(
          this.#failure === undefined
            ? { reason: "its consumers have stopped", orderly: true }
            : { reason: this.#failure.sentence, failure: this.#failure },
        );
      }
    });
    port1.start();
    const hire: Hire = { name, work, port: port2 };
    this.#worker.postMessage(hire, [port2]);
    this.#pulse = setInterval(() => this.#ask(), pulse);
  }

  /** Resolves with its consumers when its modules are loaded; with undefined if it ends before. */
  get found(): Promise<readonly Known[] | undefined> {
    return this.#found.promise;
  }

  /** Resolves when it has ended or was cut off. */
  get ended(): Promise<End> {
    return this.#ended.promise;
  }

  /** Makes it run its consumers on a database. */
  serve(url: string): void {
    this.#tell({ kind: "serve", url });
  }

  /** Stops it in order. A thread that has begun nothing, or does not answer, is cut off. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    if (this.#loaded) this.#tell({ kind: "stop" });
    else this.#end({ reason: "it had begun nothing", orderly: true });
  }

  #tell(order: Order): void {
    this.#port.postMessage(order);
  }

  #ask(): void {
    this.#unanswered++;
    if (this.#stopping && this.#unanswered > stuck) {
      this.#end({ reason: "it computes without a pause and could not be stopped" });
      return;
    }
    if (this.#stopping && this.#unanswered % 2 === 0) {
      // Its worker cannot say what the stop waits for.
      void printError(
        `${this.name}: waiting for a handler that computes without a pause; ` +
          "Ctrl-C again ends at once",
      );
    }
    if (this.#unanswered === silent) {
      logger.error(
        "{worker} has not answered for {silence} ms: one of its handlers computes or blocks without " +
          "a pause. Only the end of the process can end it",
        { worker: this.name, silence: silent * pulse },
      );
    }
    this.#tell({ kind: "ping" });
  }

  #end(end: End): void {
    if (this.#over) return; // the first reason counts; closing the port delivers what is left in it
    this.#over = true;
    clearInterval(this.#pulse);
    this.#port.close();
    this.#worker.terminate();
    this.#found.resolve(undefined);
    this.#ended.resolve(end);
  }
}

/** The threads of one `hark listen`. */
export class Threads implements Disposable {
  /** The consumers that the threads run. */
  readonly found: readonly Known[];
  readonly #work: Work;
  readonly #count: number;
  readonly #first: Thread;
  readonly #over = new AbortController();
  readonly #told = new Set<string>();
  /** Removed by hand: a thread that starts would register them anew. */
  readonly #removed = new Set<string>();
  /** Those that run, by their names. */
  readonly #running = new Map<string, Thread>();
  /** Lines that are being written: the process may end only after them. */
  readonly #writing: Promise<void>[] = [];
  /** What the threads that have ended had counted, as far as they had told. */
  ended: readonly Series[] = [];
  #code: number = exitCodes.ok;

  private constructor(work: Work, count: number, first: Thread, found: readonly Known[]) {
    this.#work = work;
    this.#count = count;
    this.#first = first;
    this.found = found;
  }

  /**
   * Starts the first thread, which loads the modules: their code never runs in the main thread.
   *
   * @param signal Cuts it off if it aborts earlier.
   * @throws {HarkError} If a module is wrong.
   */
  static async begin(work: Work, count: number, signal?: AbortSignal): Promise<Threads> {
    const first = new Thread("w1", work);
    const stop = () => first.stop();
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    const found = await first.found;
    signal?.removeEventListener("abort", stop);
    if (found !== undefined) return new Threads(work, count, first, found);
    const { failure, reason } = await first.ended;
    if (failure !== undefined) throw errorOf(failure);
    throw new HarkError("NO_CONSUMER", `a module ended the worker that loaded it: ${reason}`, {
      remedy: "Start nothing in a module's top level that may fail later.",
    });
  }

  /** Runs the threads until the signal, or until one fails for good; gives the exit code. */
  async run(db: Database, url: string, signal: AbortSignal): Promise<number> {
    const ending = AbortSignal.any([signal, this.#over.signal]);
    const names = Array.from({ length: this.#count }, (_, i) => `w${i + 1}`);
    const idle = warnOfIdleWorkers(db, this.found, this.#count, ending);
    await Promise.all(names.map((name, i) => this.#keep(name, url, ending, i === 0)));
    await idle;
    await Promise.all(this.#writing);
    if (this.#code === exitCodes.ok) await printError("stopped; progress is stored");
    return this.#code;
  }

  /** Asks the threads that run for their measurements, and adds what earlier ones have counted. */
  async measurements(reports: boolean): Promise<readonly Measurements[]> {
    const ended = sumsOnly(this.ended); // one that ends from here on is among those asked
    const all = [...this.#running.values()].map((thread) => thread.measured.ask(reports));
    return [ended, ...await Promise.all(all)];
  }

  /** Ends the threads that have not ended. */
  [Symbol.dispose](): void {
    this.#over.abort();
    this.#first.stop();
  }

  /** Keeps one worker running: starts a thread, and another when it ends, until all shall end. */
  async #keep(name: string, url: string, ending: AbortSignal, started: boolean): Promise<void> {
    let failures = 0;
    for (let life = 1; !ending.aborted; life++) {
      const born = performance.now();
      const work = { ...this.#work, removed: [...this.#removed] };
      const thread = started && life === 1 ? this.#first : new Thread(name, work);
      thread.onFailure = (failure, removed) => {
        const ends = removed === undefined;
        // With one worker, too, a failure at the first start ends `hark listen`. But the program has
        // reached the database before: what keeps one thread from it will pass.
        const { passing, code } = failure;
        const passes = passing && (life > 1 || code === "UNREACHABLE" || code === "TIMEOUT");
        if (ends && passes && !ending.aborted) return;
        this.#tell(name, failure);
        if (ends) this.#over.abort();
        else this.#removed.add(removed);
      };
      const stop = () => thread.stop();
      ending.addEventListener("abort", stop, { once: true });
      thread.serve(url);
      this.#running.set(name, thread);
      const { reason, failure, orderly = false } = await thread.ended;
      this.#running.delete(name);
      this.ended = merged([this.ended, thread.measured.sums]);
      ending.removeEventListener("abort", stop);
      if (failure !== undefined) thread.onFailure(failure);
      if (ending.aborted) {
        if (!orderly && failure === undefined) {
          await complain(`${name} did not stop in order: ${visibleLines(reason)}`);
          this.#code ||= exitCodes.failed;
        }
        return;
      }
      if (performance.now() - born > healthy) failures = 0;
      const wait = Math.min(initialWait * 2 ** Math.min(failures++, 10), longestWait);
      logger.error("{worker} ended and starts again in {wait} ms: {reason}", {
        worker: name,
        wait,
        reason,
      });
      await pause(wait, ending);
    }
  }

  /** Says what has failed, and takes its exit code. */
  #tell(name: string, failure: Failure): void {
    const { code, sentence } = failure;
    this.#code ||= code === undefined ? exitCodes.failed : exitCodeOf(errorOf(failure));
    if (this.#told.has(sentence)) return; // each worker may meet the same failure
    this.#told.add(sentence);
    this.#writing.push(complain(`${name}: ${visibleLines(sentence)}`));
  }
}

function errorOf({ code, sentence }: Failure): Error {
  return code === undefined ? new Error(sentence) : new HarkError(code, sentence);
}
