/**
 * The workers of `hark listen --workers`: started, watched, started again, stopped.
 *
 * They are threads (Web Workers), not processes. A thread has the rights of the program and needs no
 * others; a process would need the right to run `deno`, and with it has every right there is. Threads
 * also work from JSR and in a compiled binary. What they cost, as seen with Deno 2.9:
 *
 * - An uncaught error, an unhandled rejection and Deno.exit end their own thread only, its connections
 *   too. The first two come as an event; the last tells nobody, so that `thread.ts` tells of it.
 * - A thread that computes without a pause cannot be ended: `terminate()` leaves it running until the
 *   process ends. It is reported, never replaced, or such threads would pile up.
 * - Memory that runs out (each thread has a heap of its own) ends the whole process, as it does with
 *   one worker. What restarts the process then is what runs it: systemd, a container.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Database } from "../../database/database.ts";
import { pause } from "../../database/bell.ts";
import { HarkError } from "../../errors.ts";
import { exitCodeOf, exitCodes } from "../exit_codes.ts";
import type { Failure, Hire, Known, Order, Report, Work } from "./thread_messages.ts";
import { printError, visibleLines } from "../output.ts";
import { warnOfSurplus } from "./idle_workers.ts";

const logger = getLogger(["hark", "cli"]);

/** The wait before a worker is started again, in ms: the first, the longest … */
const initialWait = 500;
const longestWait = 30_000;
/** … and how long one has to live for the next wait to be the first again. */
const healthy = 60_000;

/** How often a thread is asked whether it answers, in ms. */
const pulse = 2000;
/** After so many questions without an answer it is reported … */
const silent = 15;
/** … or, when stopping, cut off: a little over the default `stopTimeout` of a consumer. */
const stuck = 18;

/** How a thread has ended. */
interface End {
  /** What happened, for people. */
  readonly reason: string;
  /** What it reported, where it did. */
  readonly failure?: Failure;
  /** Whether it ended in order, with its progress stored. */
  readonly orderly?: boolean;
}

/** One thread. */
class Thread {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #ended = Promise.withResolvers<End>();
  readonly #found = Promise.withResolvers<readonly Known[] | undefined>();
  readonly #pulse: ReturnType<typeof setInterval>;
  #loaded = false;
  #stopping = false;
  #failure: Failure | undefined;
  #unanswered = 0;
  #over = false;

  /** `failed` is told of a failure as soon as it is reported; the end may be a while after it. */
  constructor(readonly name: string, work: Work, failed: (failure: Failure) => void) {
    this.#worker = new Worker(new URL("./thread.ts", import.meta.url), { type: "module", name });
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
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
        this.#failure ??= data.failure;
        failed(data.failure);
      } else if (data.kind === "exit") this.#end({ reason: `it has called ${data.call}` });
      else if (data.kind === "pong") this.#unanswered = 0;
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

  /** Resolves with its consumers once its modules are loaded; with undefined where it ends before. */
  get found(): Promise<readonly Known[] | undefined> {
    return this.#found.promise;
  }

  /** Resolves when it has ended, or is as good as that. */
  get ended(): Promise<End> {
    return this.#ended.promise;
  }

  /** Has it run its consumers on a database. */
  serve(url: string): void {
    this.#tell({ kind: "serve", url });
  }

  /** Has it stop in order. One that has begun nothing, or does not answer for long, is cut off. */
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
    if (this.#unanswered === silent) {
      logger.error(
        "{worker} has not answered for {seconds} s: a handler of its computes, or waits, without a " +
          "pause. It cannot be ended but with the process",
        { worker: this.name, seconds: silent * pulse / 1000 },
      );
    }
    this.#tell({ kind: "ping" });
  }

  #end(end: End): void {
    if (this.#over) return; // what ends it comes first; closing the port delivers what is left in it
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
  /** The consumers that they run. */
  readonly found: readonly Known[];
  readonly #work: Work;
  readonly #count: number;
  readonly #first: Thread;
  readonly #over = new AbortController();
  readonly #told = new Set<string>();
  /** What is being written: the process may end only after it. */
  readonly #saying: Promise<void>[] = [];
  #code: number = exitCodes.ok;

  private constructor(work: Work, count: number, first: Thread, found: readonly Known[]) {
    this.#work = work;
    this.#count = count;
    this.#first = first;
    this.found = found;
  }

  /**
   * Starts the first thread, which loads the modules: nothing of theirs runs in the thread that
   * supervises.
   *
   * @throws {HarkError} what is wrong with the modules.
   */
  static async begin(work: Work, count: number): Promise<Threads> {
    // Only what a thread needs to know, and what can be sent to it.
    const { modules, consumers, excluded, logLevel, logFormat } = work;
    const sent: Work = { modules, consumers, excluded, logLevel, logFormat };
    // What goes wrong later is known by how the thread ends.
    const first = new Thread("w1", sent, () => {});
    const found = await first.found;
    if (found !== undefined) return new Threads(sent, count, first, found);
    const { failure, reason } = await first.ended;
    if (failure !== undefined) throw errorOf(failure);
    throw new HarkError("NO_CONSUMER", `a module ended the worker that was to load it: ${reason}`, {
      remedy: "Begin nothing when it is imported that may fail later.",
    });
  }

  /** Runs them until the signal, or until one fails for good; gives the exit code. */
  async run(db: Database, url: string, signal: AbortSignal): Promise<number> {
    const ending = AbortSignal.any([signal, this.#over.signal]);
    const names = Array.from({ length: this.#count }, (_, i) => `w${i + 1}`);
    const surplus = warnOfSurplus(db, this.found, this.#count, ending);
    await Promise.all(names.map((name, i) => this.#keep(name, url, ending, i === 0)));
    await surplus;
    await Promise.all(this.#saying);
    if (this.#code === exitCodes.ok) await printError("stopped; progress is stored");
    return this.#code;
  }

  /** Ends what has not ended. */
  [Symbol.dispose](): void {
    this.#over.abort();
    this.#first.stop();
  }

  /** Keeps one worker running: a thread, and when it ends another one, until all is to end. */
  async #keep(name: string, url: string, ending: AbortSignal, started: boolean): Promise<void> {
    let failures = 0;
    for (let life = 1; !ending.aborted; life++) {
      const born = performance.now();
      const failed = (failure: Failure) => {
        // What fails at its first start would end `hark listen` with one worker too.
        if (!failure.passing || life === 1 || ending.aborted) this.#fail(name, failure);
      };
      const thread = started && life === 1 ? this.#first : new Thread(name, this.#work, failed);
      const stop = () => thread.stop();
      ending.addEventListener("abort", stop, { once: true });
      thread.serve(url);
      const { reason, failure, orderly = false } = await thread.ended;
      ending.removeEventListener("abort", stop);
      if (failure !== undefined) failed(failure);
      if (ending.aborted) {
        if (!orderly && failure === undefined) {
          await printError(`hark: ${name} did not stop in order: ${visibleLines(reason)}`);
          this.#code ||= exitCodes.failed;
        }
        return;
      }
      if (performance.now() - born > healthy) failures = 0;
      const wait = Math.min(initialWait * 2 ** Math.min(failures++, 10), longestWait);
      logger.error("{worker} ended, again in {wait} ms: {reason}", { worker: name, wait, reason });
      await pause(wait, ending);
    }
  }

  /** Has all end, with the exit code of this failure. */
  #fail(name: string, failure: Failure): void {
    const { code, sentence } = failure;
    this.#code ||= code === undefined ? exitCodes.failed : exitCodeOf(errorOf(failure));
    this.#over.abort();
    if (this.#told.has(sentence)) return; // each worker meets the same
    this.#told.add(sentence);
    this.#saying.push(printError(`hark: ${name}: ${visibleLines(sentence)}`));
  }
}

function errorOf({ code, sentence }: Failure): Error {
  return code === undefined ? new Error(sentence) : new HarkError(code, sentence);
}
