/**
 * Runs consumers together and stops them together.
 *
 * @module
 */

import { printError } from "../print/output.ts";
import type { Found } from "./modules.ts";

/**
 * Runs all consumers until the signal. If one fails for good, `failed` is called and the others are
 * stopped in order. The removal of one by hand is no reason to stop the others: then `goesOn` is true.
 */
export async function runAll(
  found: readonly Found[],
  signal: AbortSignal,
  failed: (id: string, error: unknown, goesOn: boolean) => void | Promise<void>,
): Promise<void> {
  const failure = new AbortController();
  const any = AbortSignal.any([signal, failure.signal]);
  let removed = 0;
  await Promise.all(found.map(async ({ id, consumer }) => {
    try {
      await consumer.run({ signal: any });
    } catch (error) {
      const isRemoved = (error as { code?: unknown }).code === "NO_CONSUMER";
      const goesOn = isRemoved && ++removed < found.length;
      await failed(id, error, goesOn);
      if (!goesOn) failure.abort();
      return;
    }
    // It ended by itself, which only a stop() from inside its handler does.
    if (!any.aborted) await printError(`${id} has stopped`);
  }));
}
