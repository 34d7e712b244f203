/**
 * A subscription's place at the live edge of the log.
 *
 * @module
 */

import type { Bell } from "../../database/bell.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import type { PageLimits } from "../state/context.ts";
import { isLater, type Mark, type Position, seeTheSame } from "../state/position.ts";
import type { EphemeralReader } from "./ephemeral_reader.ts";
import { type AtEdge, edgeLimits, type EdgePage, LiveEdge } from "./live_edge.ts";
import { type Page, type PageRow, sizeOfRow } from "./page.ts";

/** What the edge has read for a reader that has not taken it. */
interface Inbox {
  /** Where that begins. The reader reads by itself until it is there. */
  readonly begins: Mark;
  rows: PageRow[];
  bytes: number;
  /** Where the reader is when it has taken them. */
  at: Position;
  /** Whether the reader has come to where it begins. */
  isReached: boolean;
  /** Whether the edge reads for it. */
  isOpen: boolean;
}

/** What a seat is for. */
export interface SeatOptions {
  /** Null reads every channel. */
  readonly channels: readonly string[] | null;
  readonly limits: PageLimits;
  /** Whether it reads by itself, and never takes a place. */
  readonly alone: boolean;
}

/**
 * Reads by itself until it has caught up with the edge. From then on the edge reads for it, until what
 * is not taken would be more than a page.
 */
export class Seat implements AtEdge {
  readonly channels: readonly string[];
  readonly #reader: EphemeralReader;
  readonly #bell: Bell;
  readonly #limits: PageLimits;
  readonly #isAlone: boolean;
  #edge: LiveEdge | undefined;
  #inbox: Inbox | undefined;
  /** The bell's count before the window was opened that was read last. */
  #rung = -1;
  /** The same of the window that the edge reads. */
  #opened = -1;
  #lookedAt = -Infinity;

  /** @param bell Rings when there is something to read. */
  constructor(reader: EphemeralReader, bell: Bell, { channels, limits, alone }: SeatOptions) {
    this.#reader = reader;
    this.#bell = bell;
    this.#limits = limits;
    this.channels = channels ?? [];
    this.#isAlone = alone || channels === null || limits.rows < edgeLimits.rows ||
      limits.bytes < edgeLimits.bytes;
  }

  /** The bell's count up to which it has read. What rings later may lie beyond. */
  get rung(): number {
    const inbox = this.#inbox;
    return inbox === undefined || inbox.isOpen && inbox.isReached && inbox.rows.length === 0
      ? this.#rung
      : -1;
  }

  /** When the log was last looked at for it, by `performance.now()`. */
  get lookedAt(): number {
    return this.#lookedAt;
  }

  /** Reads the next page. At the end of the log it is empty. */
  async read(session: Queryable): Promise<Page> {
    const inbox = this.#inbox;
    if (inbox?.isReached) {
      if (inbox.isOpen && inbox.rows.length === 0) await this.#edge!.read(session);
      return this.#take(inbox);
    }
    const reader = this.#reader;
    const { mark, started, at } = reader;
    this.#edge ??= this.#isAlone ? undefined : LiveEdge.of(session);
    // The reader goes on elsewhere, most likely behind where that begins.
    if (reader.lost) this.close();
    if (this.#edge === undefined || mark === undefined || reader.resuming || reader.lost) {
      return await this.#byItself(session);
    }
    // The edge would give it late rows that it began behind.
    if (at!.afterId > 0) return await this.#byItself(session);
    // What the first mark sees are replays, and the edge tells of none.
    if (isLater(started!, mark)) return await this.#byItself(session, started);
    if (inbox === undefined) await this.#edge.join(this, reader, session);
    const joined = this.#inbox;
    if (joined !== undefined && !seeTheSame(joined.begins, mark)) {
      return await this.#byItself(session, joined.begins);
    }
    if (joined !== undefined) joined.isReached = true;
    else this.#rung = -1;
    return pageOf([], reader.at!);
  }

  /** Reads without the edge, up to a mark. By default up to where the log is now. */
  async #byItself(session: Queryable, until?: Mark): Promise<Page> {
    const reader = this.#reader;
    if (reader.mark !== undefined || reader.lost) {
      this.#rung = until === undefined ? this.#bell.count : -1;
      this.#lookedAt = performance.now();
    }
    return await reader.read(ownConnection(session)?.reading ?? session, until);
  }

  #take(inbox: Inbox): Page {
    const { rows, at, isOpen } = inbox;
    this.#reader.goOn(at);
    inbox.rows = [];
    inbox.bytes = 0;
    if (!isOpen) this.#inbox = undefined;
    return pageOf(rows, at);
  }

  begin(at: Mark): void {
    this.#inbox = {
      begins: at,
      rows: [],
      bytes: 0,
      at: { seen: at, target: undefined, lastId: 0, afterId: 0 },
      isReached: false,
      isOpen: true,
    };
  }

  looks(): void {
    this.#opened = this.#bell.count;
    this.#lookedAt = performance.now();
  }

  receive(rows: readonly PageRow[], { at, windowEnd, gap }: EdgePage): void {
    const inbox = this.#inbox!;
    if (rows.length > 0) {
      const bytes = rows.reduce((sum, row) => sum + sizeOfRow(row), inbox.bytes);
      const isFull = inbox.rows.length + rows.length > this.#limits.rows ||
        bytes > this.#limits.bytes;
      if (isFull && inbox.rows.length > 0) {
        this.#edge!.leave(this);
        this.leave();
        return;
      }
      inbox.rows = inbox.rows.length === 0 ? [...rows] : inbox.rows.concat(rows);
      inbox.bytes = bytes;
      this.ring();
    }
    if (gap !== undefined) this.#reader.noteGap(gap);
    inbox.at = at;
    if (windowEnd) this.#rung = this.#opened;
  }

  leave(): void {
    if (this.#inbox !== undefined) this.#inbox.isOpen = false;
    this.#rung = -1;
    this.#bell.ring();
  }

  ring(): void {
    // This is no reason to look again.
    const isQuiet = this.#opened === this.#bell.count;
    this.#bell.ring();
    if (isQuiet) this.#opened = this.#bell.count;
  }

  /** Gives the place up, with what was read for it. */
  close(): void {
    this.#edge?.leave(this);
    this.#inbox = undefined;
  }
}

function pageOf(rows: readonly PageRow[], { target, lastId }: Position): Page {
  return { rows, lastId, windowEnd: target === undefined, span: 0, facts: {} };
}
