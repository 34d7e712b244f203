/**
 * The command-line flags of a bench, and the repetition of its measurements.
 *
 * @module
 */

import { parseArgs } from "node:util";
import process from "node:process";

/** The values of the flags. */
export interface Flags {
  /** A flag's text. */
  text(name: string): string;
  /** A flag's number. */
  number(name: string): number;
  /** A flag's numbers, given with commas between them. */
  numbers(name: string): number[];
  /** Whether a flag without a value is given. */
  has(name: string): boolean;
  /**
   * The systems that `--only` selects by parts of their names, given with commas between them. All
   * systems without `--only`.
   */
  chosen<System>(systems: Readonly<Record<string, System>>): [name: string, system: System][];
  /** How often each variant is measured. The result is the median. */
  readonly repeats: number;
  /** Whether to print JSON instead of a table. */
  readonly json: boolean;
  /** The file to write the picture to. */
  readonly svg: string | undefined;
}

/** Reads the command line. Each bench also knows `--repeats`, `--json` and `--svg`. */
export function flags(defaults: Readonly<Record<string, string | boolean>>): Flags {
  const options = Object.fromEntries(
    Object.entries({ repeats: "3", json: false, ...defaults }).map(([name, value]) =>
      typeof value === "string"
        ? [name, { type: "string" as const, default: value }]
        : [name, { type: "boolean" as const, default: value }]
    ),
  );
  const values = (() => {
    try {
      return parseArgs({ args: Deno.args, options: { ...options, svg: { type: "string" } } })
        .values as Record<string, string | boolean | undefined>;
    } catch (error) {
      console.error(`bench: ${(error as Error).message}`);
      process.exit(2);
    }
  })();
  const number = (name: string, text: string) => {
    const value = Number(text.replaceAll("_", ""));
    if (text.trim() === "" || !Number.isFinite(value)) {
      console.error(`bench: --${name} is "${text}". Give a number.`);
      process.exit(2);
    }
    return value;
  };
  return {
    text: (name) => String(values[name]),
    number: (name) => number(name, String(values[name])),
    numbers: (name) => String(values[name]).split(",").map((text) => number(name, text)),
    has: (name) => values[name] === true,
    chosen: (systems) => {
      const parts = String(values.only ?? "").toLowerCase().split(",");
      const found = Object.entries(systems)
        .filter(([name]) => parts.some((part) => name.toLowerCase().includes(part)));
      if (found.length > 0) return found;
      console.error(
        `bench: --only matches no system. The systems are: ${Object.keys(systems).join("; ")}`,
      );
      process.exit(2);
    },
    repeats: number("repeats", String(values.repeats)),
    json: values.json === true,
    svg: values.svg as string | undefined,
  };
}

/** The median. For an even number of values: the mean of the two in the middle. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  return low === undefined || high === undefined ? NaN : (low + high) / 2;
}

/**
 * Measures each variant `repeats` times, in turns, so that other load on the machine affects all
 * variants alike. Every second round runs in reverse order.
 */
export async function alternate<Name extends string, Result>(
  repeats: number,
  variants: ReadonlyArray<readonly [name: Name, measure: (pass: number) => Promise<Result>]>,
): Promise<Map<Name, Result[]>> {
  const results = new Map<Name, Result[]>(variants.map(([name]) => [name, []]));
  for (let pass = 0; pass < repeats; pass++) {
    for (const [name, measure] of pass % 2 === 0 ? variants : variants.toReversed()) {
      const result = await measure(pass);
      results.get(name)!.push(result);
      say(`${name}, ${pass + 1} of ${repeats}: ${JSON.stringify(result)}`);
    }
  }
  return results;
}

/** Prints progress to standard error. */
export function say(text: string): void {
  console.error(text.length > 200 ? `${text.slice(0, 200)} …` : text);
}

/** Rounds a number to at most `digits` significant digits; larger numbers become whole. */
export function round(number: number, digits = 3): number {
  const rounded = Number(number.toPrecision(digits));
  return Math.abs(number) >= 10 ** digits ? Math.round(number) : rounded;
}
