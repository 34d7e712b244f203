/**
 * Writing to the terminal or to a program.
 *
 * @module
 */

import { type Output, surroundings } from "./surroundings.ts";

const encoder = new TextEncoder();

/** Writes a line to standard output and waits until it is out; rejects when nobody reads any more. */
export async function print(line: string): Promise<void> {
  await write(surroundings().stdout, `${line}\n`);
}

/** Writes a value as one line of JSON. */
export async function printJson(value: unknown): Promise<void> {
  await print(JSON.stringify(value));
}

/** Writes a line to standard error. Nobody reading it is no reason to fail. */
export async function printError(line: string): Promise<void> {
  await write(surroundings().stderr, `${line}\n`).catch(() => {});
}

/** Writes a line to standard output before anything else happens. */
export function printSync(line: string): void {
  writeSync(surroundings().stdout, `${line}\n`);
}

/** The same to standard error. */
export function printErrorSync(line: string): void {
  writeSync(surroundings().stderr, `${line}\n`);
}

/** Writes over the last line of standard error: how far something is, on a terminal. */
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

/** What is held back before it is written, in characters. */
const HELD = 64 * 1024;

/** Lines for standard output, in few writes while many come and at once when one comes alone. */
export class Lines {
  #held = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();
  readonly #failed: (error: unknown) => void;

  /** `failed` is told when a line cannot be written, as nobody reads any more. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  /** Takes a line; waits while the reader is slow. */
  async add(line: string): Promise<void> {
    this.#held += `${line}\n`;
    if (this.#held.length > HELD) await this.flush();
    // What has arrived already comes before any timer.
    else this.#timer ??= setTimeout(() => this.flush().catch(this.#failed), 0);
  }

  /** Writes what is held back. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#held;
    this.#held = "";
    this.#writing = this.#writing.then(() => write(surroundings().stdout, text));
    await this.#writing;
  }
}

/** How wide a text may be: the terminal's width within bounds, 100 where there is none. */
export function columns(): number {
  if (!surroundings().stdout.isTerminal()) return 100;
  try {
    return Math.max(60, Math.min(Deno.consoleSize().columns, 120));
  } catch {
    return 100;
  }
}

/**
 * Text of others as it may be shown: what would steer a terminal, or turn the direction of the text
 * around, is written as in JSON.
 */
export function visible(text: string): string {
  return text.replaceAll(
    // deno-lint-ignore no-control-regex -- control characters are what it is about
    /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The same of several lines: those after the first are indented, so that none passes for another. */
export function visibleLines(text: string): string {
  return text.split("\n").map(visible).join("\n    ");
}

const styles = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36 } as const;

/** Colours a text where standard output is a terminal and NO_COLOR is not set. */
export function paint(style: keyof typeof styles, text: string): string {
  return paintOn(surroundings().stdout, style, text);
}

/** The same for standard error. */
export function paintError(style: keyof typeof styles, text: string): string {
  return paintOn(surroundings().stderr, style, text);
}

function paintOn(to: { isTerminal(): boolean }, style: keyof typeof styles, text: string): string {
  return to.isTerminal() && !Deno.noColor ? `\x1b[${styles[style]}m${text}\x1b[0m` : text;
}

/** A table with a heading, columns as wide as they need to be. */
export function table(head: readonly string[], given: readonly (readonly string[])[]): string {
  const rows = given.map((row) => row.map(visible));
  const widths = head.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd();
  return [paint("bold", line(head)), ...rows.map(line)].join("\n");
}

/** Bytes for people. */
export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A number with separators, the same in every locale. */
export function numberText(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** How many of something: `1 consumer`, `2,000 consumers`. */
export function countText(count: number, what: string): string {
  return `${numberText(count)} ${what}${count === 1 ? "" : "s"}`;
}

/** Seconds for people: `3 s`, `5 min`, `2.1 h`, `4.0 days`. */
export function secondsText(seconds: number): string {
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86_400).toFixed(1)} days`;
}
