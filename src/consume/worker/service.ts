/**
 * Begins to serve partitions that a worker has claimed.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import type { Queryable } from "../../database/queryable.ts";
import { count, ofConsumer } from "../../observe/seam.ts";
import type { Serves } from "../lease/assignment.ts";
import { takenOver } from "../lease/taken_over.ts";
import type { Waiting } from "../read/waiting.ts";
import { WindowReader } from "../read/window_reader.ts";
import type { Claimed } from "../state/identity.ts";
import { OwnedPartition } from "../state/partition.ts";
import { isSamePlace } from "../state/position.ts";
import type { State } from "../state/state.ts";

const logger = getLogger(["hark", "consumer"]);

/** What one worker does for its partitions. */
export class Service implements Serves {
  readonly #state: State;
  readonly #readers: WindowReader[];
  readonly #waiting: Waiting;
  /** The partitions that this run has served before. */
  readonly #served = new Set<number>();

  constructor(state: State, readers: WindowReader[], waiting: Waiting) {
    this.#state = state;
    this.#readers = readers;
    this.#waiting = waiting;
  }

  /** Reads for the partitions from now on. Partitions of the same position share a reader. */
  async adopt(session: Queryable, claimed: readonly Claimed[], restarted: boolean): Promise<void> {
    const state = this.#state;
    const { consumer } = state.options.identity;
    const adopted: OwnedPartition[] = [];
    for (const one of claimed) {
      const known = state.partitions.get(one.partition);
      if (known !== undefined) state.forget(known, takenOver(consumer, one.partition));
      // Its last owner has not released it.
      else if (one.crashes > 0) count("hark.takeovers", 1, ofConsumer(consumer));
      const held = new OwnedPartition(one, state.options.readAhead, state.run.abandon);
      state.partitions.set(held.number, held);
      // Not in a drain, which is started often. Not after two crashes: what waits may be the cause.
      held.restarted = restarted && !state.run.drain && held.crashes < 2 &&
        !this.#served.has(held.number);
      this.#served.add(held.number);
      let reader = this.#readers.find((r) => isSamePlace(r.position, one.position));
      if (reader === undefined) {
        reader = new WindowReader(one.position);
        this.#readers.push(reader);
      }
      reader.partitions.add(held);
      held.reader = reader;
      adopted.push(held);
      logger.debug("{consumer}: claimed partition {partition} under epoch {epoch}", {
        consumer,
        partition: held.number,
        epoch: held.epoch,
      });
    }
    await this.#waiting.findDone(session, adopted);
    await this.#waiting.findWaiting(session, adopted);
    for (const held of adopted) {
      held.complete = true;
      held.restarted = false;
    }
  }

  /** Looks for rows that others have put into hark.waiting. */
  async reload(session: Queryable): Promise<void> {
    await this.#waiting.findWaiting(session, [...this.#state.partitions.values()]);
  }
}
