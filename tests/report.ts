/**
 * Reads what `deno test` writes: passes it on, counts, and keeps how long each file took.
 *
 * @module
 */

import { join } from "node:path";
import { PROJECT } from "./harness/files.ts";

/** How many tests did what, from Deno's own closing line. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** A test's own line, none of a step of it: `folder/a_test.ts => its name ... ok (1m2s)`. */
const ENDED =
  /^(?:\.\/)?(\S+_test\.ts) => (?:(?! \.\.\. ).)* \.\.\. \w+ \((?:(\d+)m)?(\d+)(ms|s)\)$/gm;

const TIMES = join(PROJECT, ".hark", "test-times.json");

/** How long each file's tests took when they last ran here, in ms. */
export async function readTimes(): Promise<Map<string, number>> {
  const text = await Deno.readTextFile(TIMES).catch(() => "{}");
  return new Map(Object.entries(JSON.parse(text) as Record<string, number>));
}

/** Reads the output of one run. */
export class Reporter {
  #tail = "";
  #rest = "";
  readonly #times = new Map<string, number>();

  /** Passes the output on to its end. A test of a program of several files is told as its file's. */
  async read(output: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of output) {
      this.#rest += decoder.decode(chunk, { stream: true });
      const end = this.#rest.lastIndexOf("\n") + 1;
      await this.#pass(this.#rest.slice(0, end));
      this.#rest = this.#rest.slice(end);
    }
    await this.#pass(this.#rest);
    if (this.#times.size === 0) return;
    await Deno.mkdir(join(PROJECT, ".hark"), { recursive: true });
    const times = Object.fromEntries([...await readTimes(), ...this.#times]);
    await Deno.writeTextFile(TIMES, `${JSON.stringify(times, null, 1)}\n`);
  }

  /** What its closing line says; the last such line counts. */
  get counts(): Counts | undefined {
    const line = plain(this.#tail).match(/^(?:ok|FAILED) \| \d+ passed.*$/gm)?.at(-1);
    if (line === undefined) return undefined;
    const count = (what: string) => Number(line.match(new RegExp(`(\\d+) ${what}`))?.[1] ?? 0);
    return { passed: count("passed"), failed: count("failed"), skipped: count("ignored") };
  }

  async #pass(text: string): Promise<void> {
    const told = text.replaceAll(/^(\.\/)?\.hark\/[^ /]*_programs\/\d+\.ts => /gm, "");
    const bytes = new TextEncoder().encode(told);
    for (let sent = 0; sent < bytes.length;) sent += await Deno.stdout.write(bytes.subarray(sent));
    this.#tail = (this.#tail + told).slice(-20_000);
    for (const [, file, minutes, time, unit] of plain(told).matchAll(ENDED)) {
      const ms = Number(minutes ?? 0) * 60_000 + Number(time) * (unit === "s" ? 1000 : 1);
      this.#times.set(file!, (this.#times.get(file!) ?? 0) + ms);
    }
  }
}

function plain(text: string): string {
  // deno-lint-ignore no-control-regex -- colours
  return text.replaceAll(/\x1b\[[0-9;]*m/g, "");
}
