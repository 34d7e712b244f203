/**
 * Finds the waiting notifications, which the positions have passed and which are not finished.
 * Reads those notifications again when they are due.
 *
 * @module
 */

import { getLogger, settled } from "../../log/logger.ts";
import { toId } from "../../check.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { OwnedPartition } from "../state/partition.ts";
import { numbersText } from "../state/identity.ts";
import { type Entry, isOver } from "../state/entry.ts";
import type { State } from "../state/state.ts";
import { Caution } from "./caution.ts";

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
  async findWaiting(session: Queryable, partitions: readonly OwnedPartition[]): Promise<void> {
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
    partitions: readonly OwnedPartition[],
    most: number,
  ): Promise<boolean> {
    const { identity, maxWaiting } = this.#state.options;
    const { entries } = this.#state;
    const numbers = numbersText(partitions.map((held) => held.number));
    const asked = new Set(partitions.map((held) => held.number));
    const before = [...entries.rows.waiting.values()].filter((entry) =>
      entry.wait?.certain && asked.has(entry.partition)
    );
    const seen = new Set<number>();
    const hurried = new Set<Entry>();
    const looked = (through: number) => {
      entries.queue.hurry(hurried);
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
        const known = entries.rows.waiting.get(after);
        if (known === undefined) this.#take(after, row);
        else if (entries.rows.isHurried(known, Number(row.hurried))) hurried.add(known);
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

  /** Ends an entry whose row is gone. */
  #discarded(entry: Entry): void {
    const { entries, options } = this.#state;
    // Handled, given up or lost since the rows were asked for.
    if (entries.rows.waiting.get(entry.id) !== entry || !entries.discard(entry)) return;
    settled(options.identity.consumer, entry.id);
    logger.info("{consumer}: waiting notification {id} was discarded", {
      consumer: options.identity.consumer,
      id: entry.id,
    });
  }

  // deno-lint-ignore no-explicit-any -- a row as drivers return it
  #take(id: number, { partition, key, state, attempts, due_ms, passed, hurried }: any): void {
    const { partitions, entries } = this.#state;
    const held = partitions.get(Number(partition));
    // A finished entry may not be stored as finished yet.
    if (held === undefined || entries.rows.outcomes.has(id)) return;
    const numbers = { attempts: Number(attempts), wait: Number(due_ms), hurried: Number(hurried) };
    entries.find({ id, key, state, passed, ...numbers }, held);
  }

  /** Finds the done notifications beyond the positions of newly claimed partitions. */
  async findDone(session: Queryable, partitions: readonly OwnedPartition[]): Promise<void> {
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
    const { options, entries: { queue, bytes } } = this.#state;
    return queue.wantsLoading && queue.ready.loadedCount < loadedAtOnce &&
      bytes < options.readAheadBytes;
  }

  /** Reads the waiting notifications that are due. */
  async load(session: Queryable): Promise<void> {
    const state = this.#state;
    const { queue, rows: { outcomes } } = state.entries;
    const limits = this.#caution.limits();
    const entries = queue.takeLoading(limits.rows);
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
      queue.notLoaded(entries);
      throw error;
    }
    this.#caution.succeeded(performance.now() - sent);
    const found = new Map(rows.map((row) => [toId(row.id), row]));
    const later: Entry[] = [];
    for (const entry of entries) {
      if (isOver(entry)) continue;
      const row = found.get(entry.id);
      if (row?.fits === false) {
        later.push(entry);
        continue;
      }
      if (row === undefined && outcomes.has(entry.id)) {
        // The entry waits, but its row is not stored yet.
        queue.wait(entry, performance.now() + 20);
      } else if (row === undefined && entry.wait?.certain) {
        this.#discarded(entry);
      } else if (row === undefined || row.channel === null) {
        // The row was removed by hand, or the notification by a forced cleanup.
        settled(state.options.identity.consumer, entry.id);
        logger.warn(
          "{consumer}: waiting notification {id} is no longer stored, so it is not handled",
          {
            consumer: state.options.identity.consumer,
            id: entry.id,
          },
        );
        state.entries.finish(entry);
      } else {
        state.entries.load(entry, {
          id: entry.id,
          channel: row.channel,
          key: row.key,
          payload: row.payload,
          headers: row.headers,
          problem: row.problem ?? undefined,
          createdAt: Number(row.created_at),
          isReplay: entry.isReplay,
        });
      }
    }
    queue.notLoaded(later);
  }
}
