/**
 * When a worker has something to do by itself.
 *
 * @module
 */

import type { Parts } from "./parts.ts";

/** How long nothing is due unless a bell rings, in milliseconds. */
export function untilDue(parts: Parts): number {
  const { dispatcher, fetcher, room, state, stopReport } = parts;
  const { assignment, beats, acknowledger, maintenance, slumber } = parts;
  const { run, entries: { queue } } = state;
  const always = [assignment, beats, acknowledger, maintenance, slumber];
  let next = Math.min(...always.map(({ due }) => due));
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
