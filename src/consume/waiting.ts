/**
 * Finds the waiting notifications, which the positions have passed and which are not finished.
 * Reads those notifications again when they are due.
 *
 * @module
 */

import { toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { Caution } from "./caution.ts";
import type { HeldPartition } from "./held.ts";
import { numbersText } from "./member.ts";
import type { Entry } from "./queue.ts";
import { sizeOf, type State, waitingRow } from "./state.ts";

const logger = getLogger(["hark", "consumer"]);

/** How many waiting rows are requested at a time. */
const waitingPage = 5000;
/** How many waiting notifications are read again at a time. */
const loadedAtOnce = 50;

/** The rows of hark.waiting and hark.done of a worker's partitions. */
export class Waiting {
  readonly #state: State;
  readonly #caution: Caution;

  constructor(state: State) {
    this.#state = state;
    const { bytes } = state.options.limits;
    this.#caution = new Caution({ rows: loadedAtOnce, bytes, scanned: loadedAtOnce });
  }

  /**
   * Finds the waiting rows of partitions. These are newly claimed partitions, or all of them after
   * rows were added, hurried or removed elsewhere.
   */
  async findWaiting(session: Queryable, partitions: readonly HeldPartition[]): Promise<void> {
    const state = this.#state;
    if (partitions.length === 0) return;
    const whole = await this.#findSome(session, partitions, waitingPage);
    if (!whole) {
      // Each partition by itself: one with many waiting rows must not hide the rows of another.
      for (const held of partitions) await this.#findSome(session, [held], Infinity);
    }
    for (const held of partitions) {
      if (held.halted !== undefined) continue;
      if (state.options.block && held.waiting > 0) state.halt(held, "blocked");
      else if (held.waiting >= state.options.maxWaiting) state.halt(held, "full");
    }
  }

  /**
   * Finds up to `most` waiting rows, or as many as may wait.
   *
   * @returns whether these are all.
   */
  async #findSome(
    session: Queryable,
    partitions: readonly HeldPartition[],
    most: number,
  ): Promise<boolean> {
    const { identity, maxWaiting } = this.#state.options;
    const numbers = numbersText(partitions.map((held) => held.number));
    const asked = new Set(partitions.map((held) => held.number));
    const before = [...this.#state.waiting.values()].filter((entry) =>
      entry.wait?.stored && asked.has(entry.partition)
    );
    const seen = new Set<number>();
    const hurried = new Set<Entry>();
    const looked = (through: number) => {
      this.#state.queue.hurry(hurried);
      for (const entry of before) {
        if (entry.id <= through && !seen.has(entry.id)) this.#discarded(entry);
      }
    };
    for (let after = 0, found = 0; found < most;) {
      const { rows } = await translated(() =>
        session.query(
          `select id, partition, key, state, attempts, due_ms, passed, hurried
           from hark.waiting_of($1::text, $2::text::integer[], $3::bigint, $4::integer)`,
          [identity.consumer, numbers, after, waitingPage],
        )
      );
      for (const row of rows) {
        after = toId(row.id);
        seen.add(after);
        if (!this.#isHurried(row, hurried)) this.#takeWaiting(row);
      }
      if (rows.length < waitingPage) {
        looked(Infinity);
        return true;
      }
      found += rows.length;
      // Full: the remaining rows are found when the partition is claimed again.
      if (partitions.length === 1 && partitions[0]!.waiting >= maxWaiting || found >= most) {
        looked(after);
        return false;
      }
    }
    return false;
  }

  /**
   * Whether the row's entry is known already. If an attempt at once was asked for since, adds the
   * entry to `hurried`, or notes it while the handler runs.
   */
  // deno-lint-ignore no-explicit-any -- a row as drivers return it
  #isHurried(row: any, hurried: Set<Entry>): boolean {
    const entry = this.#state.waiting.get(toId(row.id));
    if (entry?.wait === undefined) return false;
    entry.wait.stored = true;
    const change = Number(row.hurried);
    if (change <= entry.wait.hurried) return true;
    entry.wait.hurried = change;
    if (entry.startedAt > 0) entry.wait.again = true;
    else hurried.add(entry);
    return true;
  }

  /** Ends an entry whose row is gone. If its handler runs, that is left to its result. */
  #discarded(entry: Entry): void {
    const state = this.#state;
    // Handled, given up or lost since the rows were asked for.
    if (state.waiting.get(entry.id) !== entry) return;
    if (entry.startedAt > 0) {
      entry.wait!.discarded = true;
      return;
    }
    logger.info("{consumer}: waiting notification {id} was discarded", {
      consumer: state.options.identity.consumer,
      id: entry.id,
    });
    state.outcomes.set(entry.id, { kind: "end", entry });
    state.letGo(entry);
    state.unpark(entry);
    state.queue.discard(entry);
  }

  // deno-lint-ignore no-explicit-any -- a row as drivers return it
  #takeWaiting(row: any): void {
    const state = this.#state;
    const id = toId(row.id);
    const held = state.partitions.get(Number(row.partition));
    // A finished entry may not be stored as finished yet.
    if (held === undefined || state.waiting.has(id) || state.outcomes.has(id)) return;
    const due = performance.now() + Number(row.due_ms);
    const extra = held.restarted && row.state === "failed" && Number(row.due_ms) > 0;
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
      wait: waitingRow(true, Number(row.hurried)),
    };
    if (extra) entry.wait!.extraUntil = due;
    if (!row.passed) held.done.add(id);
    state.waiting.set(id, entry);
    held.waiting++;
    state.queue.addWaiting(entry, extra ? performance.now() : due);
  }

  /** Finds the done notifications beyond the positions of newly claimed partitions. */
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

  /** Whether a waiting entry is due, and there is room for it. */
  get mayLoad(): boolean {
    const { queue, bytes, options } = this.#state;
    return queue.wantsLoading && queue.loadedCount < loadedAtOnce && bytes < options.readAheadBytes;
  }

  /** Reads the waiting notifications that are due. */
  async load(session: Queryable): Promise<void> {
    const state = this.#state;
    const limits = this.#caution.limits();
    const entries = state.queue.takeLoading(limits.rows);
    if (entries.length === 0) return;
    this.#caution.prepare(session);
    const sent = performance.now();
    let rows;
    try {
      ({ rows } = await translated(() =>
        session.query(
          `select id, channel, key, payload, headers,
            date_part('epoch', created_at) * 1000 as created_at, fits, problem
           from hark.waiting_rows($1::text, $2::text::bigint[], $3::bigint)`,
          [
            state.options.identity.consumer,
            numbersText(entries.map((entry) => entry.id)),
            limits.bytes,
          ],
        )
      ));
    } catch (error) {
      this.#caution.failed(error, performance.now() - sent);
      state.queue.notLoaded(entries);
      throw error;
    }
    this.#caution.succeeded(performance.now() - sent);
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
        // The entry waits, but its row is not stored yet.
        state.queue.wait(entry, performance.now() + 20);
      } else if (row === undefined && entry.wait?.stored) {
        this.#discarded(entry);
      } else if (row === undefined || row.channel === null) {
        // The row was removed by hand, or the notification by a forced cleanup.
        logger.warn(
          "{consumer}: waiting notification {id} is no longer stored, so it is not handled",
          {
            consumer: state.options.identity.consumer,
            id: entry.id,
          },
        );
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
          problem: row.problem ?? undefined,
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
