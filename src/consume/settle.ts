/**
 * Waiting for a handler that may never end.
 *
 * @module
 */

/** Whether a handler's result is to be waited for. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

/** What is to be called when a signal aborts: adding a listener for each handler would take longer than most. */
const leaving = new WeakMap<AbortSignal, Set<(reason: unknown) => void>>();

function leaversOf(signal: AbortSignal): Set<(reason: unknown) => void> {
  let leavers = leaving.get(signal);
  if (leavers === undefined) {
    const all = leavers = new Set();
    leaving.set(signal, all);
    signal.addEventListener("abort", () => {
      for (const leave of all) leave(signal.reason);
    }, { once: true });
  }
  return leavers;
}

/**
 * Waits for a handler's result, or rejects when `abandon` aborts: a handler that ignores its signal is
 * left behind when stopping, so that this does not hang on it. A claim that is lost still waits for it:
 * claiming anew would call it again while it runs, and when it succeeds it need not be called again at
 * all, unless another worker has taken over.
 */
export function settled(result: PromiseLike<unknown>, abandon: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leavers = leaversOf(abandon);
    leavers.add(reject);
    Promise.resolve(result).then(() => {
      leavers.delete(reject);
      resolve();
    }, (error) => {
      leavers.delete(reject);
      reject(error);
    });
    // After what has come already.
    if (abandon.aborted) queueMicrotask(() => reject(abandon.reason));
  });
}
