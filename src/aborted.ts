/**
 * Waiting that a signal can end.
 *
 * @module
 */

/**
 * A signal that aborts when one of others does, until it is let go. What listens to it may stay.
 *
 * `AbortSignal.any` keeps its signal while the others live and something listens to it. On Node.js 22
 * each call keeps some 200 bytes even without that.
 */
export class Joined extends AbortController implements Disposable {
  readonly #signals: readonly AbortSignal[];
  readonly #follow = ({ target }: Event) => this.abort((target as AbortSignal).reason);

  constructor(...signals: readonly AbortSignal[]) {
    super();
    this.#signals = signals;
    for (const signal of signals) {
      signal.addEventListener("abort", this.#follow, { once: true });
      if (signal.aborted) this.abort(signal.reason);
    }
  }

  /** Lets it go: it follows the others no more. */
  [Symbol.dispose](): void {
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#follow);
  }
}

/**
 * Waits for what a function of the user's gives, but not for ever.
 *
 * @param late Makes the error if it was not there after this many milliseconds.
 */
export async function inTime<T>(
  asked: T | PromiseLike<T>,
  ms: number,
  late: () => Error,
  signal: AbortSignal,
): Promise<T> {
  using either = new Joined(signal);
  const timer = setTimeout(() => either.abort(late()), ms);
  try {
    return await orAborted(Promise.resolve(asked), either.signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for a promise, or rejects when the signal aborts. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  promise.catch(() => {}); // after an abort it may still reject
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
