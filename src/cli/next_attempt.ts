/**
 * When a waiting notification is tried next, the same in every command.
 *
 * @module
 */

import type { Cell } from "./print/table.ts";
import { until } from "./print/text.ts";

/** What decides when a waiting notification is tried. */
interface Waits {
  /** Why it waits; null if only failed ones are shown. */
  readonly state: string | null;
  /** When it is due. */
  readonly due: Date;
  /** Whether the consumer has a living worker. */
  readonly hasWorker: boolean;
  /** Whether the consumer is paused. */
  readonly isPaused: boolean;
}

/**
 * When a waiting notification is tried next. Only a worker tries it, and one that starts alone tries it
 * at once, whenever it is due.
 */
export function nextAttempt({ state, due, hasWorker, isPaused }: Waits): Cell {
  if (isPaused) return { text: "paused", style: "yellow" };
  if (state === "newer") return "when a newer worker comes";
  if (!hasWorker) return { text: "when a worker runs", style: "yellow" };
  return state === "running" ? "its handler runs" : until(due);
}
