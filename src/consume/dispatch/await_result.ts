/**
 * Awaits a handler that may never end.
 *
 * @module
 */

/** Whether a handler's result must be awaited. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

/**
 * The callbacks to call when a signal aborts. Adding a listener for each handler would take longer
 * than most handlers.
 */
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
 * Waits for a handler's result, or rejects when `abandon` aborts. A handler that ignores its signal
 * is then left behind, so that stopping does not hang on it.
 *
 * The loss of a claim does not end the wait. Claiming the partition again would call the handler
 * again while it still runs. If the handler succeeds, it need not be called again at all, unless
 * another worker has taken over.
 */
export function settled(result: PromiseLike<unknown>, abandon: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const leavers = leaversOf(abandon);
    leavers.add(reject);
    Promise.resolve(result).then((value) => {
      leavers.delete(reject);
      resolve(value);
    }, (error) => {
      leavers.delete(reject);
      reject(error);
    });
    // A result that has already arrived comes first.
    if (abandon.aborted) queueMicrotask(() => reject(abandon.reason));
  });
}
