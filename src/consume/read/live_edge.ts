/**
 * The live edge of the log: one reader for all subscriptions of a process that stand there.
 *
 * @module
 */

import { type OwnConnection, ownConnection, type Queryable } from "../../database/queryable.ts";
import { translate } from "../../database/translate.ts";
import type { PageLimits } from "../state/context.ts";
import type { SubscriptionGap } from "../subscribe_options.ts";
import { isLater, type Mark, type Position, seeTheSame } from "../state/position.ts";
import { EphemeralReader } from "./ephemeral_reader.ts";
import { copiesOf, type Page, type PageRow, sizeOfRow } from "./page.ts";

/** The pages of the edge. A subscription with smaller ones reads by itself. */
export const edgeLimits: PageLimits = { rows: 500, bytes: 1024 * 1024, scanned: 20_000 };

/** A page that the edge has read. */
export interface EdgePage {
  /** Where the edge is after it. */
  readonly at: Position;
  readonly windowEnd: boolean;
  /** What cleaning had removed before it was read. */
  readonly gap: SubscriptionGap | undefined;
}

/** A reader that has a place at the edge. */
export interface AtEdge {
  readonly channels: readonly string[];
  /** It has a place. The edge reads for it from this mark on. */
  begin(at: Mark): void;
  /** The edge is about to look at the log. */
  looks(): void;
  /** The edge has read a page. `rows` are this reader's. */
  receive(rows: readonly PageRow[], edge: EdgePage): void;
  /** The edge reads no more for this reader. */
  leave(): void;
  /** Has this reader look. */
  ring(): void;
}

const edges = new WeakMap<object, LiveEdge>();

/**
 * Reads windows for all that have a place: a page has the rows of all their channels, and each takes its
 * own. All of them stand where the edge stands.
 *
 * A reader that asks for the next page reads it for all. The edge does not wait for the others. So a slow
 * one costs the others nothing: it loses its place if what it is given has no room.
 */
export class LiveEdge {
  /** Those that the window is read for. */
  readonly #seated = new Set<AtEdge>();
  /** Those that have a place from the next window on. */
  readonly #coming = new Set<AtEdge>();
  readonly #byChannel = new Map<string, AtEdge[]>();
  /** Undefined while there is nothing to read for. */
  #reader: EphemeralReader | undefined;
  #reading: Promise<void> | undefined;

  /** The edge that all share which share these connections. Undefined for a caller's driver. */
  static of(session: Queryable): LiveEdge | undefined {
    const own = ownConnection(session);
    if (own?.sibling === undefined) return undefined;
    let edge = edges.get(own.shared);
    if (edge === undefined) edges.set(own.shared, edge = new LiveEdge());
    return edge;
  }

  /**
   * Gives a reader between windows a place, from its own mark or a later one on. If the reader is ahead of
   * the edge, the edge reads on, and there is no place yet.
   */
  async join(one: AtEdge, reader: EphemeralReader, session: Queryable): Promise<void> {
    while (this.#reading !== undefined) await this.#reading.catch(() => {});
    const mark = reader.mark!;
    if (this.#reader === undefined) {
      this.#reader = new EphemeralReader([], edgeLimits, reader.install, "private");
      this.#reader.goOn({ seen: mark, target: undefined, lastId: 0, afterId: 0 });
    }
    const { seen, target } = this.#reader.at!;
    const begins = target ?? seen;
    if (seeTheSame(begins, mark) || isLater(begins, mark)) {
      this.#coming.add(one);
      one.begin(begins);
    } else await this.read(session);
  }

  /** Takes a reader's place away. */
  leave(one: AtEdge): void {
    this.#coming.delete(one);
    this.#seated.delete(one);
    if (this.#seated.size + this.#coming.size === 0) {
      this.#reader = undefined;
      this.#byChannel.clear();
      return;
    }
    // It may be the one that would have read the next page.
    if (this.#reader?.mark === undefined) this.#ringAll();
  }

  /**
   * Reads a page for all: the next one of the window, or the first of a new one. Those that ask in the
   * meantime share it.
   */
  read(session: Queryable): Promise<void> {
    return this.#reading ??= this.#read(ownConnection(session)!).finally(() => {
      this.#reading = undefined;
    });
  }

  async #read(session: OwnConnection): Promise<void> {
    const reader = this.#reader;
    if (reader === undefined) return;
    if (reader.mark !== undefined) this.#open(reader);
    // The reader that asks may stop before the answer comes.
    const lane = session.sibling!();
    try {
      const page = await reader.read(lane.reading);
      if (this.#reader === reader) this.#hand(reader, page);
    } catch (error) {
      // Each finds out by itself where it goes on.
      if (translate(error).code === "WINDOW_LOST") this.#dissolve();
      throw error;
    } finally {
      await lane.close();
    }
  }

  /** Begins a window. */
  #open(reader: EphemeralReader): void {
    for (const one of this.#coming) this.#seated.add(one);
    this.#coming.clear();
    this.#byChannel.clear();
    for (const one of this.#seated) {
      one.looks();
      for (const channel of new Set(one.channels)) {
        const list = this.#byChannel.get(channel);
        if (list === undefined) this.#byChannel.set(channel, [one]);
        else list.push(one);
      }
    }
    reader.channels = [...this.#byChannel.keys()];
  }

  #hand(reader: EphemeralReader, page: Page): void {
    const given = new Map<AtEdge, PageRow[]>();
    for (const row of page.rows) {
      for (const one of this.#byChannel.get(row.channel) ?? []) {
        const rows = given.get(one);
        if (rows === undefined) given.set(one, [row]);
        else rows.push(row);
      }
    }
    const edge = { at: reader.at!, windowEnd: page.windowEnd, gap: reader.takeGap() };
    const size = sizeOf(page.rows);
    for (const one of [...this.#seated]) {
      const rows = given.get(one) ?? [];
      // One that takes its part late would keep the whole page.
      one.receive(2 * sizeOf(rows) < size ? copiesOf(rows) : rows, edge);
    }
    // Whichever comes first reads the next page.
    if (!page.windowEnd) this.#ringAll();
  }

  #ringAll(): void {
    for (const one of this.#seated) one.ring();
  }

  #dissolve(): void {
    const all = [...this.#seated, ...this.#coming];
    this.#seated.clear();
    this.#coming.clear();
    this.#reader = undefined;
    for (const one of all) one.leave();
  }
}

function sizeOf(rows: readonly PageRow[]): number {
  return rows.reduce((sum, row) => sum + sizeOfRow(row), 0);
}
