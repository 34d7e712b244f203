/**
 * What the last minutes were like, for charts and trends. It takes the same memory however long a
 * page is open.
 *
 * @module
 */

import type { ConsumerStatus } from "../operate/consumer_status.ts";

/** How many looks are remembered. */
const length = 300;

/** One consumer at one look. */
export interface Sample {
  /** When, in ms since 1970. */
  readonly at: number;
  readonly unread: number;
  readonly lag: number;
  readonly waiting: number;
  readonly dead: number;
  readonly handled: number;
}

/** How a consumer moves. */
export interface Trend {
  /** Notifications handled in a second; undefined after a single look. */
  readonly perSecond: number | undefined;
  /** How many seconds the lag grows in a second; negative if it shrinks. */
  readonly lagPerSecond: number;
  /** In how many seconds the lag is gone, if it shrinks on like this. */
  readonly caughtUpIn: number | undefined;
}

/** Samples of each consumer, the oldest first. */
export class History {
  readonly #samples = new Map<string, Sample[]>();

  /** Remembers a look, and forgets consumers that are gone. */
  add(at: number, consumers: readonly ConsumerStatus[]): void {
    const names = new Set(consumers.map(({ consumer }) => consumer));
    for (const name of this.#samples.keys()) if (!names.has(name)) this.#samples.delete(name);
    for (const one of consumers) {
      const { consumer, unread, lagSeconds, waitingSeconds, waiting, dead, handled } = one;
      const samples = this.#samples.get(consumer) ?? [];
      // Removed and registered anew: what it handled before is another's.
      if (samples.at(-1) !== undefined && samples.at(-1)!.handled > handled) samples.length = 0;
      const lag = Math.max(lagSeconds, waitingSeconds);
      samples.push({ at, unread, lag, waiting, dead, handled });
      if (samples.length > length) samples.splice(0, samples.length - length);
      this.#samples.set(consumer, samples);
    }
  }

  /** The samples of one consumer. */
  of(consumer: string): readonly Sample[] {
    return this.#samples.get(consumer) ?? [];
  }

  /** At each look, one number made of all consumers. */
  all(made: (samples: readonly Sample[]) => number): { at: number; value: number }[] {
    const byTime = new Map<number, Sample[]>();
    for (const samples of this.#samples.values()) {
      for (const sample of samples) {
        const others = byTime.get(sample.at);
        if (others === undefined) byTime.set(sample.at, [sample]);
        else others.push(sample);
      }
    }
    return [...byTime].sort(([a], [b]) => a - b).map(([at, samples]) => ({
      at,
      value: made(samples),
    }));
  }

  /** How a consumer moved over the last half minute. */
  trend(consumer: string): Trend {
    const samples = this.of(consumer);
    const last = samples.at(-1);
    const first = last && samples.find(({ at }) => at >= last.at - 30_000);
    if (last === undefined || first === undefined || first.at === last.at) {
      return { perSecond: undefined, lagPerSecond: 0, caughtUpIn: undefined };
    }
    const seconds = (last.at - first.at) / 1000;
    const lagPerSecond = (last.lag - first.lag) / seconds;
    return {
      perSecond: (last.handled - first.handled) / seconds,
      lagPerSecond,
      caughtUpIn: last.lag > 2 && lagPerSecond < -0.02 ? last.lag / -lagPerSecond : undefined,
    };
  }

  /** How many notifications all consumers handled in a second, between each two looks. */
  rates(): { at: number; value: number }[] {
    const sums = new Map<number, number>();
    for (const samples of this.#samples.values()) {
      for (const [i, { at, handled }] of samples.entries()) {
        if (i === 0) continue;
        const before = samples[i - 1]!;
        const rate = (handled - before.handled) / Math.max(0.001, (at - before.at) / 1000);
        sums.set(at, (sums.get(at) ?? 0) + rate);
      }
    }
    return [...sums].sort(([a], [b]) => a - b).map(([at, value]) => ({ at, value }));
  }
}
