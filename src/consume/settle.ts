/**
 * Waiting for a handler that may never end.
 *
 * @module
 */

/** Whether a handler's result is to be waited for. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

/**
 * Waits for a handler's result, or rejects when `abandon` aborts: a handler that ignores its signal is
 * left behind when stopping, so that this does not hang on it. A claim that is lost still waits for it:
 * claiming anew would call it again while it runs, and when it succeeds it need not be called again at
 * all, unless another worker has taken over.
 */
export async function settled(result: PromiseLike<unknown>, abandon: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const leave = () => reject(abandon.reason);
  if (abandon.aborted) leave();
  abandon.addEventListener("abort", leave, { once: true });
  try {
    await Promise.race([result, promise]);
  } finally {
    abandon.removeEventListener("abort", leave);
  }
}
