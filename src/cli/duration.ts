/**
 * Durations on the command line.
 *
 * @module
 */

import type { ValueParser } from "@optique/core/valueparser";
import { kind } from "./options.ts";

const units: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Reads `250ms`, `10s`, `1.5h` or `1d` into milliseconds; undefined where it is no duration. */
export function parseDuration(input: string): number | undefined {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(input) ?? [];
  const value = Number(amount) * (units[unit ?? ""] ?? NaN);
  return Number.isFinite(value) ? value : undefined;
}

/** A duration as the value of an option, in milliseconds. */
export function duration(option: `--${string}`): ValueParser<"sync", number> {
  return kind("DURATION", 0, (input) => {
    const value = parseDuration(input);
    if (value !== undefined) return value;
    throw new Error(
      `${option} is ${JSON.stringify(input)}. Give 250ms, 10s, 5m, 2h or 1d, for example.`,
    );
  });
}
