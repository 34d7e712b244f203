/**
 * Ctrl-C and its relatives.
 *
 * @module
 */

import { exitCodes } from "./exit.ts";

/** A second signal sooner than this, in ms, is the same Ctrl-C: a task runner may pass it on twice. */
const SAME = 100;

/** Watches for signals until disposed of. */
export interface Stopping extends Disposable {
  /** Aborts at the first SIGINT or SIGTERM. The second SIGINT ends the process at once. */
  readonly signal: AbortSignal;
}

/** Turns the first SIGINT or SIGTERM into an abort. */
export function stopping(): Stopping {
  const controller = new AbortController();
  let first = 0;
  const stop = (interrupt: boolean) => {
    if (!controller.signal.aborted) {
      first = performance.now();
      controller.abort();
    } else if (interrupt && performance.now() - first > SAME) {
      Deno.exit(exitCodes.interrupted);
    }
  };
  const listeners: [Deno.Signal, () => void][] = [["SIGINT", () => stop(true)]];
  // Windows knows neither SIGTERM nor SIGHUP in Deno; its closing of a console is SIGBREAK there.
  listeners.push([Deno.build.os === "windows" ? "SIGBREAK" : "SIGTERM", () => stop(false)]);
  for (const [name, listener] of listeners) Deno.addSignalListener(name, listener);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const [name, listener] of listeners) Deno.removeSignalListener(name, listener);
    },
  };
}
