/**
 * Ctrl-C and other signals that end a command.
 *
 * @module
 */

import { exitCodes } from "../exit_codes.ts";
import { surroundings } from "./surroundings.ts";

/** A second signal within this time, in ms, is the same Ctrl-C: a task runner may pass it on twice. */
const same = 100;

/** Watches for signals until disposed of. */
export interface Stopping extends Disposable {
  /** Aborts at the first SIGINT, SIGTERM or SIGHUP. The second SIGINT ends the process at once. */
  readonly signal: AbortSignal;
  /** Resolves at that signal. */
  readonly asked: Promise<void>;
}

/**
 * Turns the first SIGINT, SIGTERM or SIGHUP (a closed terminal) into an abort.
 *
 * @param left Gives a line to write if a second SIGINT ends the process and leaves something behind.
 */
export function stopping(left: () => string | undefined = () => undefined): Stopping {
  const here = surroundings();
  const controller = new AbortController();
  const asked = Promise.withResolvers<void>();
  let first = 0;
  const stop = (interrupt: boolean) => {
    if (!controller.signal.aborted) {
      first = performance.now();
      controller.abort();
      asked.resolve();
    } else if (interrupt && performance.now() - first > same) {
      const words = left();
      try {
        if (words !== undefined) here.stderr.writeSync(new TextEncoder().encode(`${words}\n`));
      } finally {
        here.exit(exitCodes.interrupted);
      }
    }
  };
  const listeners: [Deno.Signal, () => void][] = [["SIGINT", () => stop(true)]];
  // Deno knows neither SIGTERM nor SIGHUP on Windows; closing a console sends SIGBREAK there.
  const others: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGBREAK"] : ["SIGTERM", "SIGHUP"];
  for (const name of others) listeners.push([name, () => stop(false)]);
  for (const [name, listener] of listeners) here.addSignalListener(name, listener);
  return {
    signal: controller.signal,
    asked: asked.promise,
    [Symbol.dispose]() {
      for (const [name, listener] of listeners) here.removeSignalListener(name, listener);
    },
  };
}
