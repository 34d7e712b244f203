/**
 * What a command line works in: its streams, its environment and its signals. They are those of the
 * process, unless a program runs `hark` within itself.
 *
 * @module
 */

/** Where a command writes. */
export interface Output {
  /** Writes some of the bytes, and says how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** The same at once. */
  writeSync(bytes: Uint8Array): number;
  /** Whether a person looks on. */
  isTerminal(): boolean;
}

/** Where a command reads. */
export interface Input {
  /** What there is to read. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Whether a person types. */
  isTerminal(): boolean;
}

/** What a command line works in. */
export interface Surroundings {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  /** A variable of the environment. */
  variable(name: string): string | undefined;
  /** Has a signal call `listener`. */
  addSignalListener(signal: Deno.Signal, listener: () => void): void;
  /** Has it no longer do so. */
  removeSignalListener(signal: Deno.Signal, listener: () => void): void;
  /** Ends the program at once. */
  exit(code: number): never;
}

const process: Surroundings = {
  stdin: Deno.stdin,
  stdout: Deno.stdout,
  stderr: Deno.stderr,
  variable: (name) => Deno.env.get(name),
  addSignalListener: (signal, listener) => Deno.addSignalListener(signal, listener),
  removeSignalListener: (signal, listener) => Deno.removeSignalListener(signal, listener),
  exit: (code) => Deno.exit(code),
};

let current = process;

/** The surroundings of the command that runs. */
export function surroundings(): Surroundings {
  return current;
}

/** Runs a command in other surroundings. One at a time: logging is set up for the whole process. */
export async function within<T>(other: Surroundings, run: () => Promise<T>): Promise<T> {
  if (current !== process) throw new Error("another command runs within this process");
  current = other;
  try {
    return await run();
  } finally {
    current = process;
  }
}
