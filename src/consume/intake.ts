/**
 * Brings notifications in: pages of the log, what waits, and what of that is due.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import type { HeldPartition } from "./held.ts";
import { numbersText } from "./member.ts";
import type { PageRow } from "./page.ts";
import type { Entry } from "./queue.ts";
import type { Reader } from "./reader.ts";
import { sizeOf, type State } from "./state.ts";

const logger = getLogger(["hark", "consumer"]);

/** How many waiting rows are asked for at a time. */
const waitingPage = 5000;
/** How many notifications that waited are read again at a time. */
const loadedAtOnce = 50;

/** Reads for a worker. All of it on the worker's own session, one query at a time. */
export class Intake {
  readonly #state: State;
  /** The smallest page worth a query, while there is something to handle meanwhile. */
  readonly #worthReading: number;

  constructor(state: State) {
    this.#state = state;
    const { limits, readAhead } = state.options;
    this.#worthReading = Math.max(1, Math.floor(Math.min(limits.rows, readAhead) / 2));
  }

  /** How many rows may be read now; 0 where there is no room. */
  get #room(): number {
    const { options, bytes, outstanding } = this.#state;
    if (bytes >= options.readAheadBytes) return 0;
    const room = Math.min(options.limits.rows, options.readAhead - outstanding);
    return room >= this.#worthReading ? room : 0;
  }

  /** Whether more could be read if there were room. */
  get isFull(): boolean {
    return this.#room === 0;
  }

  /** Whether a reader should look now. */
  #wanted(reader: Reader, now: number): boolean {
    const { bell, listener } = this.#state.run;
    if (reader.settled) return now - reader.openedAt >= 500;
    return reader.inWindow || bell.count !== reader.rung ||
      now - reader.openedAt >= this.#state.options.pollInterval ||
      // Without LISTEN nothing rings, so it looks until there is nothing.
      reader.hadRows && listener?.live !== true;
  }

  /** When a reader wants to look at the latest. */
  nextLook(): number {
    let next = Infinity;
    for (const reader of this.#state.readers) {
      if (this.#state.run.drain && reader.fresh && !reader.inWindow) continue;
      const wait = reader.settled ? 500 : this.#state.options.pollInterval;
      next = Math.min(next, reader.openedAt + wait);
    }
    return next;
  }

  /** Reads a page for each reader that should have one. @returns whether anything was read. */
  async read(session: Queryable): Promise<boolean> {
    // A drain is over with a window that was opened after it began.
    const readers = this.#state.readers.filter((r) =>
      !this.#state.run.drain || !r.fresh || r.inWindow
    );
    let read = false;
    const atBoundary = readers.filter((r) => !r.inWindow && r.caughtUp);
    const together = atBoundary.length > 1;
    const now = performance.now();
    let alike: Reader | undefined;
    // Before any of them opens its next window: going past one is the fence that the next one needs.
    for (const reader of together ? atBoundary : []) {
      if (reader.ended) await this.#pass(session, reader, false);
    }
    for (const reader of readers) {
      if (!this.#state.readers.includes(reader)) continue; // its partitions were halted meanwhile
      const joins = together && atBoundary.includes(reader);
      if (!joins && !this.#wanted(reader, now)) continue;
      const room = this.#room;
      if (room === 0) break;
      if (reader.ended) await this.#pass(session, reader, false);
      await this.#readPage(session, reader, room, joins ? alike : undefined);
      if (joins) alike ??= reader;
      read = true;
    }
    if (together) await this.#merge(session, atBoundary);
    return read;
  }

  async #readPage(
    session: Queryable,
    reader: Reader,
    rows: number,
    alike: Reader | undefined,
  ): Promise<void> {
    const { options, run, started } = this.#state;
    const page = await reader.read(
      session,
      options.identity,
      { ...options.limits, rows },
      started!,
      run.bell.count,
      alike,
    );
    for (const row of page.rows) this.#take(row, page.position);
  }

  /** Goes past a window that was read to its end: an empty one is rather thrown away. */
  async #pass(session: Queryable, reader: Reader, always: boolean): Promise<void> {
    if (!always && !reader.dirty) reader.discard();
    else await reader.pass(session);
  }

  /** Readers that have read to the same snapshot become one. */
  async #merge(session: Queryable, readers: readonly Reader[]): Promise<void> {
    const state = this.#state;
    const opened = readers.find((r) => r.ended);
    const same = readers.filter((r) => r.ended && r.tag === opened!.tag);
    if (same.length < 2) return;
    for (const reader of same) await this.#pass(session, reader, true);
    // Whose partitions were all halted meanwhile is on the list no more.
    const [first, ...others] = same.filter((r) => state.readers.includes(r));
    if (first === undefined) return;
    for (const reader of others) {
      if (!state.readers.includes(reader)) continue;
      await first.merge(session, reader);
      state.removeReader(reader);
      if (!state.readers.includes(first) && first.partitions.size > 0) state.readers.push(first);
    }
    first.dirty = true; // where all of them stand is not stored yet
  }

  /** Makes an entry of a row that was read from the log. */
  #take(row: PageRow, page: string): void {
    const state = this.#state;
    const held = state.partitions.get(row.partition);
    if (held === undefined || held.halted !== undefined) return;
    const entry: Entry = {
      id: row.id,
      partition: row.partition,
      lane: state.laneOf(row.partition, row.key),
      key: row.key,
      row,
      page,
      attempts: held.tail > 0 ? held.crashes : 0,
      settled: false,
      parked: false,
      startedAt: 0,
      dropped: false,
      alone: held.crashes >= 2 && held.tail > 0,
      isReplay: row.isReplay,
    };
    held.add(entry);
    if (held.done.delete(row.id)) {
      entry.settled = true;
      entry.row = undefined;
      return;
    }
    state.bytes += sizeOf(entry);
    state.queue.add(entry);
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
