/**
 * Runs consumers together and stops them together.
 *
 * @module
 */

import { printError } from "../print/output.ts";
import type { Found } from "./modules.ts";

/**
 * Runs all consumers until the signal. If one fails for good, `failed` is called and the others are
 * stopped in order.
 */
export async function runAll(
  found: readonly Found[],
  signal: AbortSignal,
  failed: (id: string, error: unknown) => void | Promise<void>,
): Promise<void> {
  const failure = new AbortController();
  const any = AbortSignal.any([signal, failure.signal]);
  let failures = 0;
  await Promise.all(found.map(async ({ id, consumer }) => {
    try {
      await consumer.run({ signal: any });
    } catch (error) {
      failures++;
      await failed(id, error);
      // The removal of one consumer by hand is no reason to stop the others.
      if ((error as { code?: unknown }).code === "NO_CONSUMER" && found.length > 1) return;
    }
    if (!any.aborted) {
      // It ended by itself, which only a stop() from inside its handler does.
      if (failures === 0) await printError(`${id} has stopped`);
      else failure.abort();
    }
  }));
}
