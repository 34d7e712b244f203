/**
 * Writing to standard output and standard error.
 *
 * @module
 */

import { type Output, surroundings } from "../process/surroundings.ts";
import { paintError, visible } from "./style.ts";

const encoder = new TextEncoder();

/** Writes a line to standard output; rejects if the reader has closed it. */
export async function print(line: string): Promise<void> {
  await write(surroundings().stdout, `${line}\n`);
}

/**
 * Takes the rejection of a write whose reader is gone, as in `… | head -1`: the work goes on without
 * output. Throws any other error.
 */
export function unlessClosed(error: unknown): void {
  if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
}

/** Writes a value as one line of JSON. */
export async function printJson(value: unknown): Promise<void> {
  await print(jsonText(value));
}

/** A value as JSON. What could steer a terminal is escaped: it can only stand within strings. */
export function jsonText(value: unknown): string {
  return visible(JSON.stringify(value));
}

/** Writes a line to standard error; never fails. */
export async function printError(line: string): Promise<void> {
  await write(surroundings().stderr, `${line}\n`).catch(() => {});
}

/** Says on standard error what has gone wrong, or is not as asked for; never fails. */
export async function complain(sentence: string): Promise<void> {
  await printError(`${paintError("red", "hark:")} ${sentence}`);
}

/** Writes a line to standard output synchronously. */
export function printSync(line: string): void {
  writeSync(surroundings().stdout, `${line}\n`);
}

/** Writes a line to standard error synchronously. */
export function printErrorSync(line: string): void {
  writeSync(surroundings().stderr, `${line}\n`);
}

/** Replaces the last line of standard error, to show progress on a terminal. */
export async function printProgress(text: string): Promise<void> {
  await write(surroundings().stderr, `\r\x1b[K${text}`);
}

async function write(to: Output, text: string) {
  const data = encoder.encode(text);
  for (let sent = 0; sent < data.length;) sent += await to.write(data.subarray(sent));
}

function writeSync(to: Output, text: string): void {
  const data = encoder.encode(text);
  for (let sent = 0; sent < data.length;) sent += to.writeSync(data.subarray(sent));
}

/** How many characters are kept back before they are written. */
const most = 64 * 1024;

/** Lines for standard output: few writes for many lines, and a write at once for a single line. */
export class Lines {
  #kept = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();
  readonly #failed: (error: unknown) => void;

  /** `failed` is called if a line cannot be written because the reader has closed the output. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  /** Takes a line; waits while the reader is slow. */
  async add(line: string): Promise<void> {
    this.#kept += `${line}\n`;
    if (this.#kept.length > most) await this.flush();
    // Lines that have already arrived are taken before any timer fires.
    else this.#timer ??= setTimeout(() => this.flush().catch(this.#failed), 0);
  }

  /** Writes what is kept back. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#kept;
    this.#kept = "";
    this.#writing = this.#writing.then(() => write(surroundings().stdout, text));
    await this.#writing;
  }
}

/** The width for help pages: the terminal's, from 60 to 120; 100 without a terminal. */
export function columns(): number {
  if (!surroundings().stdout.isTerminal()) return 100;
  try {
    return Math.max(60, Math.min(Deno.consoleSize().columns, 120));
  } catch {
    return 100;
  }
}
