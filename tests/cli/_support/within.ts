/**
 * The command line within the test: its arguments, streams and signals are the test's, its rights too.
 * It saves the half second of work that a process of its own takes to begin.
 *
 * @module
 */

import { configure, getConfig, reset } from "@logtape/logtape";
import { main } from "../../../src/cli/main.ts";
import type { Output, Surroundings } from "../../../src/cli/process/surroundings.ts";
import { type Ended, Transcript, type Wait, within } from "../../harness/mod.ts";

/** What a command writes to. */
export interface Screen {
  /** Whether it is a terminal. */
  readonly terminal?: boolean;
  /** NO_COLOR, FORCE_COLOR, and settings such as HARK_WORKERS. */
  readonly variables?: Readonly<Record<string, string>>;
  /** Whether the reader of standard output has closed it, as `head` does. */
  readonly closed?: boolean;
}

/** `hark` with these arguments, within this process. */
export class Within implements AsyncDisposable {
  readonly #out = new Transcript();
  readonly #listeners = new Map<Deno.Signal, Set<() => void>>();
  readonly #ended: Promise<Ended>;

  constructor(
    args: readonly string[],
    url: string,
    stdin: string | ReadableStream<Uint8Array> = "",
    { terminal = false, variables = {}, closed = false }: Screen = {},
  ) {
    const readable = typeof stdin === "string" ? new Blob([stdin]).stream() : stdin;
    const { promise: exited, resolve: exit } = Promise.withResolvers<number>();
    const here: Surroundings = {
      stdin: { readable, isTerminal: () => false },
      stdout: this.#output("stdout", terminal, closed),
      stderr: this.#output("stderr", terminal),
      // Colours, settings and the database depend on the test alone, not on how it was started.
      variable: (name) =>
        name === "DATABASE_URL"
          ? url
          : /^(PG|HARK_)|_COLOR$/.test(name)
          ? variables[name]
          : Deno.env.get(name),
      addSignalListener: (signal, listener) => {
        const set = this.#listeners.get(signal) ?? new Set();
        this.#listeners.set(signal, set.add(listener));
      },
      removeSignalListener: (signal, listener) => this.#listeners.get(signal)?.delete(listener),
      exit: (code) => {
        exit(code);
        throw new Error(`the program ends with ${code}`);
      },
    };
    this.#ended = (async () => {
      const before = getConfig();
      const code = await Promise.race([exited, main(args, here)]);
      // What later tests log is not the command's; a test file that listens to the log goes on doing so.
      if (before === null) await reset();
      else await configure({ ...before, reset: true });
      this.#out.end();
      return { code, signal: null, stdout: this.stdout, stderr: this.stderr };
    })();
  }

  get stdout(): string {
    return this.#out.stdout;
  }
  get stderr(): string {
    return this.#out.stderr;
  }

  /** Waits for a line of its output that matches; earlier ones count. */
  line(pattern: RegExp, wait?: Wait): Promise<RegExpMatchArray> {
    return this.#out.line(pattern, wait);
  }

  /** Gives it a signal, as far as it listens. Any ends a program that does not listen. */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    for (const listener of this.#listeners.get(signal) ?? []) listener();
  }

  /** Waits for its end. */
  async ended(wait: Wait = {}): Promise<Ended> {
    return await within(this.#ended, {
      deadline: wait.deadline ?? 20_000,
      what: wait.what ?? `the command to end; it wrote:\n${this.stdout}${this.stderr}`,
    });
  }

  /** Interrupts it if it still runs, and waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGINT");
    await this.ended();
  }

  #output(stream: "stdout" | "stderr", terminal: boolean, closed = false): Output {
    const text = new TextDecoder();
    const writeSync = (bytes: Uint8Array) => {
      if (closed) throw new Deno.errors.BrokenPipe("Broken pipe (os error 32)");
      this.#out.add(stream, text.decode(bytes, { stream: true }));
      return bytes.length;
    };
    return {
      writeSync,
      write: async (bytes) => await Promise.resolve(bytes).then(writeSync),
      isTerminal: () => terminal,
    };
  }
}
