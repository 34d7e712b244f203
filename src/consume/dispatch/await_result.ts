/**
 * Awaits a handler that may never end.
 *
 * @module
 */

import { whenAborted } from "../../aborted.ts";

/** Whether a handler's result must be awaited. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

/**
 * Waits for a handler's result, or rejects when one of `abandons` aborts. A handler that ignores its signal
 * is then left behind, so that stopping does not hang on it.
 *
 * The loss of a claim does not end the wait. Claiming the partition again would call the handler
 * again while it still runs. If the handler succeeds, it need not be called again at all, unless
 * another worker has taken over.
 */
export function settled(
  result: PromiseLike<unknown>,
  ...abandons: readonly AbortSignal[]
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const leave = abandons.map((one) => whenAborted(one, reject));
    const left = () => leave.forEach((one) => one());
    Promise.resolve(result).then((value) => {
      left();
      resolve(value);
    }, (error) => {
      left();
      reject(error);
    });
    // A result that has already arrived comes first.
    for (const { aborted, reason } of abandons) if (aborted) queueMicrotask(() => reject(reason));
  });
}
