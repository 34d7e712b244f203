/**
 * The rows of readers that sleep, which the heartbeat of their process renews.
 *
 * @module
 */

import type { Bell } from "../../database/bell.ts";
import type { Listener } from "../../database/listener.ts";

/**
 * How long a sleeper is woken without asking again, in milliseconds. A dead sleeper costs
 * publishers for this long.
 */
export const sleepTime = 120_000;
/** Readers renew their sleep at multiples of this, so that they do so together, in milliseconds. */
const renewalGrid = 30_000;
/** How long before it is due a heartbeat renews a row, in milliseconds: there are some in that time. */
const early = 10_000;

/** What a reader knows of its rows in hark.sleepers. */
export class SleeperRow {
  readonly sleeper: string;
  /** How many channels they are for, each with a row. */
  readonly channels: number;
  /** Until when they are valid, at least. */
  until = -Infinity;
  renewAt = -Infinity;
  /** How often the reader had been rung when it last went to sleep on. */
  sleptAt: number | undefined;
  readonly #heard: Bell;

  /**
   * @param sleeper A uuid that no other reader uses.
   * @param heard The bell that publishers ring.
   */
  constructor(sleeper: string, channels: number, heard: Bell) {
    this.sleeper = sleeper;
    this.channels = channels;
    this.#heard = heard;
  }

  /**
   * Whether the reader sleeps. One that was rung since may be busy with what it has read, for as long as the
   * loop of a subscription takes: publishers would notify it in vain.
   */
  get isAsleep(): boolean {
    return this.sleptAt === this.#heard.count;
  }

  /** They were stored or renewed by a statement that was sent at a time, for a number of milliseconds. */
  stored(sent: number, time: number = sleepTime): void {
    this.until = sent + time;
    // With the time that a heartbeat comes early, or each renewal would come a step of the grid sooner.
    this.renewAt = Math.floor((sent + early + time / 2) / renewalGrid) * renewalGrid;
  }
}

const rowsOf = new WeakMap<Listener, Set<SleeperRow>>();

/**
 * Has heartbeats renew the rows of a reader that a LISTEN session hears for. Returns a function that
 * ends that.
 */
export function renewByHeartbeat(listener: Listener, row: SleeperRow): () => void {
  const rows = rowsOf.get(listener) ?? new Set();
  rowsOf.set(listener, rows.add(row));
  return () => void rows.delete(row);
}

/** What a heartbeat renews. */
export interface Renewal {
  /** The sleepers, as PostgreSQL writes an array. */
  readonly sleepers: string;
  /** Takes the answer: a JSON object with the number of channels that each was renewed for. */
  answered(renewed: string | null): void;
}

/** What a heartbeat that is sent now is to renew. */
export function renewalAt(now: number, listener: Listener | undefined): Renewal {
  const due = [...listener && rowsOf.get(listener) || []]
    .filter(({ isAsleep, renewAt, until }) => isAsleep && now >= renewAt - early && now < until)
    .map((row) => ({ row, until: row.until }));
  return {
    sleepers: `{${due.map(({ row }) => row.sleeper).join(",")}}`,
    answered(renewed) {
      const channels: Record<string, number> = JSON.parse(renewed ?? "{}");
      for (const { row, until } of due) {
        // Unless the reader has woken since it was asked, or has to renew them itself: some have expired.
        if (row.until === until && channels[row.sleeper] === row.channels) row.stored(now);
      }
    },
  };
}
