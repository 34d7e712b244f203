/**
 * When a worker has something to do by itself.
 *
 * @module
 */

import type { Parts } from "./parts.ts";

/** How long nothing is due unless a bell rings, in milliseconds. */
export function untilDue(parts: Parts): number {
  const {
    acknowledger,
    assignment,
    beats,
    dispatcher,
    fetcher,
    maintenance,
    room,
    slumber,
    state,
    stopReport,
  } = parts;
  const { run, entries: { queue } } = state;
  let next = Math.min(
    assignment.due,
    beats.due,
    acknowledger.due,
    maintenance.due,
    slumber.due,
  );
  if (run.waking !== undefined) {
    next = Math.min(next, run.waking.due(fetcher.standing(dispatcher.open)));
  }
  if (run.stopping.aborted) next = Math.min(next, stopReport.due);
  if (dispatcher.open) {
    next = Math.min(next, queue.nextDue);
    if (!fetcher.isFull) next = Math.min(next, fetcher.nextLook());
    else next = Math.min(next, room.due);
    if (run.drain) next = Math.min(next, performance.now() + 100);
  }
  return Math.min(Math.max(next - performance.now(), 1), 60_000);
}
