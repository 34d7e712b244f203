/**
 * Starts workers as processes and asks them questions.
 *
 * @module
 */

import { fromFileUrl } from "../../tests/harness/files.ts";
import { TextLineStream } from "./lines.ts";
import type { Answer, Question, WorkerConfig } from "./main.ts";

/** A worker process. Disposing it kills the process, unless it was stopped before. */
export class BenchWorker implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #stopped = false;

  private constructor(config: WorkerConfig) {
    this.#process = new Deno.Command("deno", {
      args: [
        "run",
        "--no-prompt",
        "--quiet",
        "--lock=dev.lock",
        "-P=measure",
        fromFileUrl(new URL("./main.ts", import.meta.url)),
        JSON.stringify(config),
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextLineStream()).getReader();
  }

  /** The number of the process. */
  get pid(): number {
    return this.#process.pid;
  }

  /** Starts a worker process and waits until it is ready. */
  static async start(config: WorkerConfig): Promise<BenchWorker> {
    const worker = new BenchWorker(config);
    await worker.#line();
    return worker;
  }

  /** Asks the worker, and waits at most `seconds` for the answer. */
  async ask(question: Question, seconds = 600): Promise<Answer> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(question)}\n`));
    let timer;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new Error(
              `the worker gave no answer to ${JSON.stringify(question)} within ${seconds} s`,
            ),
          ),
        seconds * 1000,
      );
    });
    try {
      return JSON.parse(await Promise.race([this.#line(), late])) as Answer;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Waits until the worker has handled exactly `count` notifications, and fails if it has handled
   * more. With `end` it also waits until the worker has ended by itself, if it does so.
   */
  async handled(count: number, seconds = 600, end = false): Promise<Answer> {
    const answer = await this.ask({ count, end }, seconds);
    if (answer.handled !== count) {
      throw new Error(`${answer.handled} were handled instead of ${count}`);
    }
    return answer;
  }

  /** Stops the worker in order. */
  async stop(): Promise<Answer> {
    const answer = await this.ask({ stop: true }, 60);
    this.#stopped = true;
    await this.#end();
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopped) return;
    this.#process.kill("SIGKILL");
    await this.#end();
  }

  async #line(): Promise<string> {
    const { value } = await this.#lines.read();
    if (value !== undefined) return value;
    const { code } = await this.#process.status;
    throw new Error(`a worker has ended with code ${code}`);
  }

  async #end(): Promise<void> {
    await this.#process.status;
    await this.#lines.cancel();
    // The process may have closed its input already. Closing it again fails, which does not matter.
    await this.#input.abort().catch(() => undefined);
  }
}
