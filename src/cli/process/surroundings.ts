/**
 * What a command line works in: its streams, environment and signals. They are the process's own,
 * unless a program such as a test runs `hark` within itself.
 *
 * @module
 */

import { ownVariable } from "../../database/environment.ts";

/** Where a command writes. */
export interface Output {
  /** Writes some of the bytes and gives their number. */
  write(bytes: Uint8Array): Promise<number>;
  /** The same, synchronously. */
  writeSync(bytes: Uint8Array): number;
  /** Whether it is a terminal. */
  isTerminal(): boolean;
}

/** Where a command reads. */
export interface Input {
  /** The bytes. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Whether it is a terminal. */
  isTerminal(): boolean;
}

/** What a command line works in. */
export interface Surroundings {
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Gives a variable of the environment. */
  variable(name: string): string | undefined;
  /** Calls `listener` for each signal of this name. */
  addSignalListener(signal: Deno.Signal, listener: () => void): void;
  /** Calls it no longer. */
  removeSignalListener(signal: Deno.Signal, listener: () => void): void;
  /** Ends the program at once. */
  exit(code: number): never;
}

const process: Surroundings = {
  stdin: Deno.stdin,
  stdout: Deno.stdout,
  stderr: Deno.stderr,
  // The variables of libpq and of settings count where they may be read. The right to others is asked
  // for.
  variable: (name) => /^(PG|HARK_)/.test(name) ? ownVariable(name) : Deno.env.get(name),
  addSignalListener: (signal, listener) => Deno.addSignalListener(signal, listener),
  removeSignalListener: (signal, listener) => Deno.removeSignalListener(signal, listener),
  exit: (code) => Deno.exit(code),
};

let current = process;

/** The surroundings of the command that runs. */
export function surroundings(): Surroundings {
  return current;
}

/** Runs a command in other surroundings; one at a time, as logging is set up for the whole process. */
export async function within<T>(other: Surroundings, run: () => Promise<T>): Promise<T> {
  if (current !== process) throw new Error("another command runs within this process");
  current = other;
  try {
    return await run();
  } finally {
    current = process;
  }
}
