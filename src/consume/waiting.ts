/**
 * Brings in what the positions have passed and is not done with: learns of it, and reads it again when it is due.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import type { HeldPartition } from "./held.ts";
import { numbersText } from "./member.ts";
import type { Entry } from "./queue.ts";
import { sizeOf, type State } from "./state.ts";

const logger = getLogger(["hark", "consumer"]);

/** How many waiting rows are asked for at a time. */
const waitingPage = 5000;
/** How many notifications that waited are read again at a time. */
const loadedAtOnce = 50;

/** The rows of hark.waiting and hark.done of a worker's partitions. */
export class Waiting {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  /** Learns what waits in partitions: those just claimed, or all after somebody else put something there. */
  async findWaiting(session: Queryable, partitions: readonly HeldPartition[]): Promise<void> {
    const state = this.#state;
    if (partitions.length === 0) return;
    const whole = await this.#findSome(session, partitions, waitingPage);
    if (!whole) {
      // Each by itself, as one that has many must not hide what waits in another.
      for (const held of partitions) await this.#findSome(session, [held], Infinity);
    }
    for (const held of partitions) {
      if (held.halted !== undefined) continue;
      if (state.options.block && held.waiting > 0) state.halt(held, "blocked");
      else if (held.waiting >= state.options.maxWaiting) state.halt(held, "full");
    }
  }

  /** Learns of up to so many waiting rows, or as many as may wait. @returns whether those are all. */
  async #findSome(
    session: Queryable,
    partitions: readonly HeldPartition[],
    most: number,
  ): Promise<boolean> {
    const { identity, maxWaiting } = this.#state.options;
    const numbers = numbersText(partitions.map((held) => held.number));
    for (let after = 0, found = 0; found < most;) {
      const { rows } = await translated(() =>
        session.query(
          `select id, partition, key, state, attempts, due_ms, passed
           from hark.waiting_of($1::text, $2::text::integer[], $3::bigint, $4::integer)`,
          [identity.consumer, numbers, after, waitingPage],
        )
      );
      for (const row of rows) {
        after = toId(row.id);
        this.#takeWaiting(row);
      }
      if (rows.length < waitingPage) return true;
      found += rows.length;
      // Full: the rest is learnt of when it is claimed anew.
      if (partitions.length === 1 && partitions[0]!.waiting >= maxWaiting) return false;
    }
    return false;
  }

  // deno-lint-ignore no-explicit-any -- a row as drivers return it
  #takeWaiting(row: any): void {
    const state = this.#state;
    const id = toId(row.id);
    const held = state.partitions.get(Number(row.partition));
    // One that is over may not be stored as such yet.
    if (held === undefined || state.waiting.has(id) || state.outcomes.has(id)) return;
    const crashed = held.crashes > 0 && held.outstanding === 0 && row.state !== "behind";
    const entry: Entry = {
      id,
      partition: held.number,
      lane: state.laneOf(held.number, row.key),
      key: row.key,
      row: undefined,
      page: undefined,
      attempts: Number(row.attempts) + (crashed ? held.crashes : 0),
      settled: true,
      parked: true,
      startedAt: 0,
      dropped: false,
      alone: held.crashes >= 2,
      isReplay: true,
    };
    if (!row.passed) held.done.add(id);
    state.waiting.set(id, entry);
    held.waiting++;
    state.queue.addWaiting(entry, performance.now() + Number(row.due_ms));
  }

  /** Learns what is done beyond the positions of partitions just claimed. */
  async findDone(session: Queryable, partitions: readonly HeldPartition[]): Promise<void> {
    const { identity } = this.#state.options;
    if (partitions.length === 0) return;
    const { rows } = await translated(() =>
      session.query("select id, partition from hark.done_of($1::text, $2::text::integer[])", [
        identity.consumer,
        numbersText(partitions.map((held) => held.number)),
      ])
    );
    for (const row of rows) {
      this.#state.partitions.get(Number(row.partition))?.done.add(toId(row.id));
    }
  }

  /** Whether something that waited is due, and there is room for it. */
  get mayLoad(): boolean {
    const { queue, bytes, options } = this.#state;
    return queue.wantsLoading && queue.loadedCount < loadedAtOnce && bytes < options.readAheadBytes;
  }

  /** Reads again what waited and is due. */
  async load(session: Queryable): Promise<void> {
    const state = this.#state;
    const { limits } = state.options;
    const entries = state.queue.takeLoading(loadedAtOnce);
    if (entries.length === 0) return;
    let rows;
    try {
      ({ rows } = await translated(() =>
        session.query(
          `select id, channel, key, payload::text as payload, headers::text as headers,
            date_part('epoch', created_at) * 1000 as created_at, fits
           from hark.waiting_rows($1::text, $2::text::bigint[], $3::bigint)`,
          [
            state.options.identity.consumer,
            numbersText(entries.map((entry) => entry.id)),
            limits.bytes,
          ],
        )
      ));
    } catch (error) {
      state.queue.notLoaded(entries);
      throw error;
    }
    const found = new Map(rows.map((row) => [toId(row.id), row]));
    const loaded: Entry[] = [];
    const later: Entry[] = [];
    for (const entry of entries) {
      if (entry.dropped) continue;
      const row = found.get(entry.id);
      if (row?.fits === false) {
        later.push(entry);
        continue;
      }
      if (row === undefined && state.outcomes.has(entry.id)) {
        // It is to wait, but that is not stored yet.
        state.queue.wait(entry, performance.now() + 20);
      } else if (row === undefined || row.channel === null) {
        // Taken away by hand, or its notification by a forced clean-up.
        logger.warn("{consumer}: notification {id} waited and is no longer there", {
          consumer: state.options.identity.consumer,
          id: entry.id,
        });
        state.unpark(entry);
        state.outcomes.set(entry.id, { kind: "end", entry });
        state.queue.end(entry);
      } else {
        entry.row = {
          id: entry.id,
          channel: row.channel,
          key: row.key,
          payload: row.payload,
          headers: row.headers,
          createdAt: Number(row.created_at),
          isReplay: entry.isReplay,
        };
        state.bytes += sizeOf(entry);
        loaded.push(entry);
      }
    }
    state.queue.notLoaded(later);
    state.queue.loaded(loaded);
  }
}
