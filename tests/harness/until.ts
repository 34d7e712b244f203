/**
 * Waiting for something to become so, with a deadline and a message. No test sleeps and hopes.
 *
 * @module
 */

/** How long to wait, and what for. */
export interface Wait {
  /**
   * Milliseconds until the wait fails, on a machine that is not busy: {@linkcode patient} makes them
   * more. 30,000 unless given.
   */
  readonly deadline?: number;
  /** What is waited for, as the failure message says it: "the worker to stop". */
  readonly what?: string;
}

const DEADLINE = 30_000;

const factor = Math.max(1, Number(setting("HARK_TEST_PATIENCE")) || 1);

/**
 * The time to wait on this machine for what takes `ms` at most on one that is not busy. The variable
 * HARK_TEST_PATIENCE says how much slower this machine is; every deadline of the harness is scaled.
 */
export function patient(ms: number): number {
  return ms * factor;
}

/** A variable of the environment; undefined for a program that may not read it. */
function setting(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}

/**
 * Calls `predicate` until it gives something truthy, and returns that: every few milliseconds at first,
 * then less often, as most predicates ask the server. Fails with the last value (or the error the last
 * call threw) at the deadline.
 */
export async function until<T>(
  predicate: () => T | Promise<T>,
  { deadline = DEADLINE, what = String(predicate).slice(0, 200) }: Wait = {},
): Promise<T> {
  const time = patient(deadline);
  const begun = performance.now();
  const end = begun + time;
  let last: unknown;
  for (;;) {
    try {
      last = undefined;
      const value = await predicate();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      const seen = last instanceof Error ? last.message : Deno.inspect(last);
      throw new Error(`waited ${time} ms for ${what}; last seen: ${seen}`, {
        cause: last instanceof Error ? last : undefined,
      });
    }
    // A tenth of the time that has passed: so much longer a test takes at most.
    const pause = Math.min(Math.max(2, (performance.now() - begun) / 10), 250);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Gives what `promise` gives, or fails at the deadline. */
export async function within<T>(
  promise: PromiseLike<T>,
  { deadline = DEADLINE, what = "a promise to settle" }: Wait = {},
): Promise<T> {
  return await withinExactly(promise, patient(deadline), what);
}

/** The same with a time that is scaled already. */
async function withinExactly<T>(promise: PromiseLike<T>, time: number, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${time} ms for ${what}`)), time);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A signal that is given once, from a callback, and awaited elsewhere. */
export interface Deferred<T> {
  /** Gives the signal. */
  readonly resolve: (value: T) => void;
  /** Gives an error instead. */
  readonly reject: (error: unknown) => void;
  /** Whether either has happened. */
  readonly settled: boolean;
  /** Waits for the signal up to a deadline. */
  wait(wait?: Wait): Promise<T>;
}

/** Makes a {@linkcode Deferred}. */
export function deferred<T = void>(what = "a signal"): Deferred<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  promise.catch(() => {}); // a caller that waits sees it
  let settled = false;
  return {
    resolve: (value) => {
      settled = true;
      resolve(value);
    },
    reject: (error) => {
      settled = true;
      reject(error);
    },
    get settled() {
      return settled;
    },
    wait: (wait = {}) => within(promise, { what, ...wait }),
  };
}

/** Collects what arrives, so that a test can wait until enough has. */
export class Inbox<T> {
  /** All that has arrived, in order. */
  readonly items: T[] = [];
  #waiting: (() => void)[] = [];

  /** Takes one in. Bound, so that it can be given as a callback. */
  readonly push = (item: T): void => {
    this.items.push(item);
    for (const wake of this.#waiting.splice(0)) wake();
  };

  /** Waits until at least `count` have arrived, and gives all of them. */
  async atLeast(count: number, { deadline = DEADLINE, what }: Wait = {}): Promise<T[]> {
    const time = patient(deadline);
    const end = performance.now() + time;
    while (this.items.length < count) {
      const arrived = new Promise<void>((resolve) => this.#waiting.push(resolve));
      await withinExactly(arrived, Math.max(0, end - performance.now()), "").catch(() => {
        throw new Error(
          `waited ${time} ms for ${what ?? `${count} items`}; have ${this.items.length}: ` +
            Deno.inspect(this.items.slice(-5)),
        );
      });
    }
    return this.items;
  }
}
