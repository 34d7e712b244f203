/**
 * The options of a consumer's runs.
 *
 * @module
 */

import type { Duration } from "../duration.ts";

/** Options of {@linkcode Consumer.run}. */
export interface RunOptions {
  /** Stop the run when this signal aborts, as `stop()` does. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode Consumer.drain}. */
export interface DrainOptions extends RunOptions {
  /**
   * The most notifications that handlers are called for, at least 1. Each attempt counts. The drain
   * then ends, and leaves the others to the next one.
   *
   * @default {none}
   */
  readonly limit?: number;
  /**
   * How long the drain may take, 1 ms to 2000000000 ms. In the last tenth of it, at most 1 s, no
   * further handler starts. At its end the signals of running handlers abort, and the drain no longer
   * waits for them. What they handle is released, and handled again. If a statement is under way then,
   * the next drain of the same object first waits for it, at most 10 s, as a part of its own time.
   *
   * @default {none}
   */
  readonly deadline?: Duration;
  /**
   * Whether to wait for what other workers serve, and for retries that are due within
   * `pollInterval`. With false, the drain takes what is free and due now. It ends at once if other
   * workers serve every partition.
   *
   * @default {true}
   */
  readonly wait?: boolean;
}
