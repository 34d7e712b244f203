/**
 * Programs run as processes of their own, to be killed or to be read.
 *
 * @module
 */

import { fromFileUrl } from "./files.ts";
import { deferred, patient, type Wait, within } from "./until.ts";

/** How to run a program. */
export interface SpawnOptions {
  /** Variables on top of this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Flags for its rights, for example `["--allow-net=127.0.0.1"]`. The test's own set unless given. */
  readonly permissions?: readonly string[];
  /** The folder it runs in; this process's own unless given. */
  readonly cwd?: string;
  /** The user it runs as, for tests that run as root. */
  readonly uid?: number;
  /** The group it runs as. */
  readonly gid?: number;
  /** Written to its standard input, which is then closed; empty unless given. */
  readonly stdin?: string | ReadableStream<Uint8Array>;
}

/** How a program ended. */
export interface Ended {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a program has written, as it writes it. */
export class Transcript {
  #over = false;
  #news = deferred();
  /** What it has written to standard output so far. */
  stdout = "";
  /** What it has written to standard error so far. */
  stderr = "";

  /** Takes in what it writes. */
  add(stream: "stdout" | "stderr", text: string): void {
    this[stream] += text;
    const news = this.#news;
    this.#news = deferred();
    news.resolve();
  }

  /** No more will come. */
  end(): void {
    this.#over = true;
    this.#news.resolve();
  }

  /** Waits for a line, of standard output or error, that matches; earlier ones count. */
  async line(pattern: RegExp, wait: Wait = {}): Promise<RegExpMatchArray> {
    const { deadline = 30_000 } = wait;
    const end = performance.now() + patient(deadline);
    for (;;) {
      for (const line of `${this.stdout}\n${this.stderr}`.split("\n")) {
        const match = line.match(pattern);
        if (match !== null) return match;
      }
      const what = `a line like ${pattern}; it wrote:\n${this.stdout}${this.stderr}`;
      if (this.#over) throw new Error(`the program ended without ${what}`);
      await this.#news.wait({ deadline: (end - performance.now()) / patient(1), what });
    }
  }
}

/** A running program. Disposing of it kills it if it still runs, and waits for its end. */
export class Child implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #ended: Promise<Ended>;
  readonly #out = new Transcript();

  /** Takes over a process whose output is piped. */
  constructor(process: Deno.ChildProcess) {
    this.#process = process;
    const reading = Promise.all([
      this.#read(process.stdout, "stdout"),
      this.#read(process.stderr, "stderr"),
    ]);
    this.#ended = (async () => {
      const { code, signal } = await process.status;
      await reading;
      this.#out.end();
      return { code, signal, stdout: this.stdout, stderr: this.stderr };
    })();
  }

  /** Its process number. */
  get pid(): number {
    return this.#process.pid;
  }
  /** What it has written to standard output so far. */
  get stdout(): string {
    return this.#out.stdout;
  }
  /** What it has written to standard error so far. */
  get stderr(): string {
    return this.#out.stderr;
  }

  /** Waits for a line of its output, standard output or error, that matches; earlier ones count. */
  line(pattern: RegExp, wait?: Wait): Promise<RegExpMatchArray> {
    return this.#out.line(pattern, wait);
  }

  /** Sends a signal; `SIGTERM` unless given. Does nothing when it has ended. */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    try {
      this.#process.kill(signal);
    } catch {
      // ended already
    }
  }

  /** Waits for its end. */
  async ended(wait: Wait = {}): Promise<Ended> {
    return await within(this.#ended, {
      deadline: wait.deadline ?? 30_000,
      what: wait.what ?? `the program to end; it wrote:\n${this.stdout}${this.stderr}`,
    });
  }

  /** Kills it if it still runs, and waits. Fails when a child of its own keeps its output open. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.ended({ deadline: 10_000, what: "the output of a killed program to be closed" });
  }

  async #read(stream: ReadableStream<Uint8Array>, name: "stdout" | "stderr"): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream() as never)) {
      this.#out.add(name, text as string);
    }
  }
}

/** Runs a program with its output piped. */
export function spawn(
  program: string,
  args: readonly string[],
  { env = {}, cwd, uid, gid, stdin }: SpawnOptions = {},
): Child {
  const command = new Deno.Command(program, {
    args: [...args],
    env: { NO_COLOR: "1", ...env },
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ...(cwd === undefined ? {} : { cwd }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
  const process = command.spawn();
  if (stdin !== undefined) {
    const input = typeof stdin === "string" ? new Blob([stdin]).stream() : stdin;
    input.pipeTo(process.stdin).catch(() => {}); // a program that refuses its arguments does not read
  }
  return new Child(process);
}

/**
 * Runs a script with `deno run`: `[script, ...args]`, the script relative to the project's folder.
 * It gets the rights of the test unless `permissions` names others, and never asks.
 */
export function spawnDeno(args: readonly string[], options: SpawnOptions = {}): Child {
  const [script = "", ...rest] = args;
  const root = new URL("../../", import.meta.url);
  const permissions = options.permissions ?? ["-P=test"];
  // What a program imports besides the package would be noted in the package's own lock.
  const lock = permissions.some((flag) => /^--(no-)?lock/.test(flag))
    ? []
    : [`--lock=${fromFileUrl(new URL("dev.lock", root))}`];
  return spawn(denoProgram(), [
    "run",
    "--no-prompt",
    "--quiet",
    `--config=${fromFileUrl(new URL("deno.json", root))}`,
    ...lock,
    ...permissions,
    fromFileUrl(new URL(script, root)),
    ...rest,
  ], options);
}

/**
 * Deno itself. `deno` on the PATH may be a script of npm's that starts the program and passes no
 * signal on, so the program proper is taken where the runner has allowed it.
 */
function denoProgram(): string {
  const command = Deno.execPath();
  const { state } = Deno.permissions.querySync({ name: "run", command });
  return state === "granted" ? command : "deno";
}
