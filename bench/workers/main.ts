/**
 * A worker in a process of its own. Its first argument configures it. It prints `{"ready":true}`,
 * and then answers each line of its input with a line of JSON once it has handled `count`
 * notifications: how many it has handled, how long that took, its peak memory, and the latencies.
 *
 *     main.ts '{"system":"hark","url":"postgres://…","name":"bench"}'
 *
 * @module
 */

import { TextLineStream } from "./lines.ts";
import type { Serve } from "./system.ts";
import { systems } from "./systems.ts";

/** The first argument. */
export type WorkerConfig = Omit<Serve, "begins" | "handled"> & {
  readonly system: string;
  /**
   * Record the time when this many are handled. The question with that `count` may come too late
   * for it.
   */
  readonly mark?: number;
};

/** A question to the worker. */
export interface Question {
  /**
   * Answer once this many were handled since the start or the last `reset`, or once the worker has
   * ended.
   */
  readonly count?: number;
  /**
   * Also wait until the worker has ended, if it ends by itself: the time then includes what it
   * stores last.
   */
  readonly end?: boolean;
  /** Forget what was handled so far. */
  readonly reset?: boolean;
  /** End in order. */
  readonly stop?: boolean;
}

/** The answer of the worker. */
export interface Answer {
  readonly handled: number;
  /** The time from the start or the last `reset` until the first was handled, in milliseconds. */
  readonly first: number;
  /**
   * The time from the start or the last `reset` until the last of `count`, or until the end, in
   * milliseconds.
   */
  readonly ms: number;
  /** Peak resident memory, in bytes. */
  readonly peak: number;
  /** The latency of each notification that carried its publishing time (`at`), in milliseconds. */
  readonly latencies: readonly number[];
}

/** Milliseconds since 1970 with fractions: the same clock in all processes of a machine. */
const now = () => performance.timeOrigin + performance.now();

const { system, mark, ...config } = JSON.parse(Deno.args[0]!) as WorkerConfig;
let [handled, began, first, last, peak] = [0, now(), NaN, now(), 0];
let latencies: number[] = [];
let awaited: { readonly count: number; resolve(): void } | undefined;

function watchMemory() {
  peak = Math.max(peak, Deno.memoryUsage().rss);
}
setInterval(watchMemory, 20);

const serving = await systems[system]!({
  ...config,
  begins: () => began = now(),
  handled(payload) {
    if (++handled === 1) first = now();
    if (handled === mark) last = now();
    const at = (payload as { at?: unknown } | null)?.at;
    if (typeof at === "number") latencies.push(now() - at);
    if (handled % 1000 === 0) watchMemory();
    if (awaited !== undefined && handled >= awaited.count) {
      last = now();
      awaited.resolve();
    }
  },
});
let over = false;
const ended = serving.done?.then(() => {
  last = now();
  over = true;
  awaited?.resolve(); // nothing more will arrive
});
ended?.catch((error) => {
  console.error(error);
  Deno.exit(1);
});
console.log(JSON.stringify({ ready: true }));

for await (const line of Deno.stdin.readable.pipeThrough(new TextLineStream())) {
  const { count = 0, end = false, reset = false, stop = false } = JSON.parse(line) as Question;
  if (reset) {
    [handled, began, first, peak] = [0, now(), NaN, 0];
    latencies = [];
  }
  if (handled < count && !over) {
    const { promise, resolve } = Promise.withResolvers<void>();
    awaited = { count, resolve };
    await promise;
    awaited = undefined;
  }
  if (end) await ended;
  watchMemory();
  if (stop) await serving.stop();
  const answer: Answer = {
    handled,
    first: first - began,
    ms: last - began,
    peak,
    latencies,
  };
  console.log(JSON.stringify(answer));
  if (stop) break;
}
Deno.exit(0);
