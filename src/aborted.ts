/**
 * Waiting that a signal can end.
 *
 * @module
 */

/** What is called when a signal aborts. */
const called = new WeakMap<AbortSignal, Set<(reason: unknown) => void>>();

/**
 * Calls a function when a signal aborts. Returns a function that takes that back. One listener serves all
 * of a signal: to add one for each handler would take longer than most handlers.
 */
export function whenAborted(signal: AbortSignal, call: (reason: unknown) => void): () => void {
  let calls = called.get(signal);
  if (calls === undefined) {
    const all = calls = new Set();
    called.set(signal, all);
    signal.addEventListener("abort", () => {
      for (const one of all) one(signal.reason);
    }, { once: true });
  }
  calls.add(call);
  return () => void calls.delete(call);
}

/**
 * A signal that aborts with any of several, until it is disposed of. They may live for long. Deno and
 * Node.js keep what `AbortSignal.any` makes of such signals for as long as these live:
 * https://github.com/denoland/deno/issues/24842, https://github.com/nodejs/node/issues/64476
 */
export class OwnSignal implements Disposable {
  readonly #controller = new AbortController();
  readonly #leave: readonly (() => void)[];

  /** @param sources The signals that it aborts with. */
  constructor(...sources: readonly AbortSignal[]) {
    const abort = (reason: unknown) => this.#controller.abort(reason);
    for (const { aborted, reason } of sources) if (aborted) abort(reason);
    this.#leave = sources.map((one) => whenAborted(one, abort));
  }

  /** The signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Lets go of the sources. */
  [Symbol.dispose](): void {
    for (const leave of this.#leave) leave();
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
