/**
 * Keeps measurements in memory.
 *
 * @module
 */

import type { About } from "../observe/seam.ts";
import type { Sink } from "./recorder.ts";
import { bounds, type MetricName } from "./table.ts";

/** A value, or how often values lay within each bound. */
export interface Series {
  readonly metric: MetricName;
  readonly about: About;
  /** Of a histogram, how many values there were. */
  readonly value: number;
  /** Of a histogram, their sum. */
  readonly sum?: number;
  /** Of a histogram, how many values lay within each bound and not within the one before. */
  readonly buckets?: readonly number[];
}

type Changing = { -readonly [Field in keyof Series]: Series[Field] } & { buckets?: number[] };

/**
 * How many series of one metric are kept. A program that draws names for channels at random must not
 * fill its memory with them: what is beyond counts as one series, without attributes.
 */
const mostSeries = 2000;

/** The measurements of one process. */
export class Registry implements Sink {
  readonly #series = new Map<MetricName, Map<string, Changing>>();
  /** Facts that are the same object have the same series. */
  readonly #found = new WeakMap<About, Map<MetricName, Changing>>();

  add(metric: MetricName, value: number, about: About): void {
    this.#at(metric, about).value += value;
  }

  record(metric: MetricName, value: number, about: About): void {
    const series = this.#at(metric, about);
    series.value++;
    series.sum = (series.sum ?? 0) + value;
    series.buckets ??= bounds.map(() => 0);
    const at = bounds.findIndex((bound) => value <= bound);
    if (at >= 0) series.buckets[at]!++;
  }

  #at(metric: MetricName, about: About): Changing {
    const known = this.#found.get(about);
    const found = known?.get(metric);
    if (found !== undefined) return found;
    let all = this.#series.get(metric);
    if (all === undefined) this.#series.set(metric, all = new Map());
    const own = keyOf(about);
    const isFull = all.size >= mostSeries && !all.has(own);
    const key = isFull ? "" : own;
    let series = all.get(key);
    if (series === undefined) {
      all.set(key, series = { metric, about: isFull ? {} : about, value: 0 });
    }
    if (known === undefined) this.#found.set(about, new Map([[metric, series]]));
    else known.set(metric, series);
    return series;
  }

  /** All series as they are now. */
  all(): Series[] {
    return [...this.#series.values()].flatMap((all) =>
      [...all.values()].map((one) => ({
        ...one,
        ...(one.buckets && { buckets: [...one.buckets] }),
      }))
    );
  }
}

/** A text that is the same for the same facts. */
export function keyOf(about: About): string {
  return JSON.stringify(Object.entries(about).sort(([a], [b]) => a < b ? -1 : 1));
}
