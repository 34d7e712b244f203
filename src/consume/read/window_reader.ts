/**
 * Reads windows, from one mark to a later one, for some partitions of a consumer. One scan serves all
 * partitions with the same position.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import type { OwnedPartition, PositionSource } from "../state/partition.ts";
import type { PageLimits } from "../state/context.ts";
import type { Identity } from "../state/identity.ts";
import {
  isPrivate,
  isSameMark,
  type Mark,
  markOf,
  type Position,
  seeTheSame,
} from "../state/position.ts";
import { type PackedPage, type Page, pageAfter, parsePage, spanWorthStoring } from "./page.ts";
import { askPage, type Place } from "./window_page.ts";

/** A requested page, and the partitions it is for. */
interface Asked {
  readonly session: Queryable;
  readonly place: Place;
  readonly held: readonly OwnedPartition[];
  readonly epochs: readonly number[];
  readonly limits: PageLimits;
  readonly answer: Promise<PackedPage>;
  /** How long the answer took to arrive, in milliseconds. */
  took: number;
}

/** A page that has arrived and is about to be unpacked. */
export interface ArrivedPage {
  /** The most rows that the page can have. */
  readonly rows: number;
  readonly bytes: number;
  /** How long the page took to arrive, in milliseconds. */
  readonly took: number;
}

/** What a reader needs for a request. */
export interface Asking {
  readonly identity: Identity;
  readonly limits: PageLimits;
  /** The mark cut when the run started. Notifications that it sees are replays. */
  readonly started: Mark;
  /**
   * Returns the limits of the next page of the window. That page is requested before this one is
   * unpacked, so that the server reads at the same time. Without this function, or if it returns
   * undefined, no page is requested ahead.
   */
  readonly ahead?: (page: ArrivedPage) => PageLimits | undefined;
  /** Called with the error of a failed request, whether or not the page is taken. */
  readonly failed?: (error: unknown, took: number) => void;
}

/** A page that was read. */
export interface ReadPage extends Page {
  /** The position after it, inside its window. */
  readonly position: Position;
  /** How long it took to arrive, in milliseconds. */
  readonly took: number;
  /** Whether it is time to store a mark. */
  readonly wantsCut: boolean;
}

/** A position that is read from, shared by partitions. */
export class WindowReader implements PositionSource {
  readonly partitions = new Set<OwnedPartition>();
  position: Position;
  /**
   * Whether there is something to store: rows were read, many ids were passed, or part of a window
   * was stored.
   */
  dirty: boolean;
  moved = false;
  fresh = false;
  /**
   * The bell's count before the mark was cut to which it read last. Notifications that ring later may
   * lie beyond that mark.
   */
  rung = -1;
  /** When it began to read to that mark. */
  openedAt = -Infinity;
  /** Whether the window has had rows. */
  hadRows = false;
  settled = false;
  /** The end of a window that is opened and of which nothing is read. */
  #opened: Mark | undefined;
  /** Whether the window was opened in this run. */
  #own = false;
  #bounded = false;
  /** The next page of the window, requested before the previous one was unpacked. */
  #ahead: Asked | undefined;

  constructor(position: Position) {
    this.position = position;
    this.dirty = this.inWindow;
  }

  /** Whether a window is open that is not read to its end. */
  get inWindow(): boolean {
    return this.#opened !== undefined || this.position.target !== undefined;
  }

  /** Where the window ends that it is in, or was in last. */
  get end(): Mark {
    return this.position.target ?? this.position.seen;
  }

  /**
   * The limits of the page that was requested ahead and not taken yet. Undefined if there is none.
   */
  get ahead(): PageLimits | undefined {
    return this.#ahead?.limits;
  }

  /** Where the next page begins. */
  get place(): Place {
    const { position } = this;
    return position.target === undefined
      ? { ...position, target: this.#opened, lastId: undefined }
      : position;
  }

  /**
   * Opens a window, between windows.
   *
   * @param mark Where it ends. Undefined for where the log is when the server reads, or where it says.
   * @param rung The bell's count before that mark was cut, or before this call.
   * @returns whether there is something to read.
   */
  open(mark: Mark | undefined, rung: number): boolean {
    this.rung = rung;
    this.openedAt = performance.now();
    this.hadRows = this.#bounded = false;
    this.#own = true;
    if (
      isSameMark(mark, this.position.seen) ||
      isPrivate(mark) && seeTheSame(mark, this.position.seen)
    ) {
      this.fresh = true;
      return false;
    }
    this.#opened = mark;
    return true;
  }

  /** Reads the next page of the window. */
  async read(session: Queryable, asking: Asking): Promise<ReadPage> {
    const { seen, afterId } = this.position;
    const asked = this.#asked(session) ?? this.#ask(session, asking, this.place, asking.limits);
    this.#ahead = undefined;
    const packed = await this.#arrived(asked);
    const { target: told } = packed.rows[0] ?? {};
    const target = told === null ? asked.place.target! : markOf(told);
    const next = pageAfter(packed);
    const limits = next &&
      asking.ahead?.({ rows: asked.limits.rows, bytes: next.bytes, took: asked.took });
    // Not while the reader's partitions change: a page requested for other partitions would be
    // thrown away.
    if (next && limits && this.#isFor(asked)) {
      const { lastId } = next;
      this.#ahead = this.#ask(session, asking, { seen, target, lastId, afterId }, limits);
    }
    const page = parsePage(packed, asking.identity.channels[0]!);
    return this.take(page, target, asked.took);
  }

  /**
   * Goes on behind a page that was read at its place.
   *
   * @param target Where its window ends.
   * @param took How long it took to arrive, in milliseconds.
   */
  take(page: Page, target: Mark, took: number): ReadPage {
    const { seen, afterId } = this.position;
    const position = { seen, target, lastId: page.lastId, afterId };
    this.#opened = undefined;
    if (page.rows.length > 0) this.hadRows = true;
    if (page.facts.bounded === true) this.#bounded = true;
    if (!isSameMark(target, seen)) {
      this.position = page.windowEnd
        ? { seen: target, target: undefined, lastId: 0, afterId }
        : position;
      this.moved = true;
    }
    if (this.hadRows || this.#bounded || page.span > spanWorthStoring) this.dirty = true;
    this.settled = page.windowEnd && page.facts.bounded === true;
    if (page.windowEnd && this.#own) this.fresh = true;
    return { ...page, position, took, wantsCut: page.facts.wants_cut === true };
  }

  /** Waits for a page. If it was to open a window and does not come, the reader has not looked. */
  async #arrived({ answer }: Asked): Promise<PackedPage> {
    try {
      return await answer;
    } catch (error) {
      if (!this.inWindow) {
        this.rung = -1;
        this.openedAt = -Infinity;
      }
      throw error;
    }
  }

  /** The page requested ahead, if it is the page wanted now. */
  #asked(session: Queryable): Asked | undefined {
    const ahead = this.#ahead;
    return ahead !== undefined && ahead.session === session &&
        isSameMark(ahead.place.seen, this.position.seen) &&
        isSameMark(ahead.place.target, this.position.target) &&
        ahead.place.lastId === this.position.lastId && this.#isFor(ahead)
      ? ahead
      : undefined;
  }

  /** Whether the partitions and their epochs are still the same as when a page was requested. */
  #isFor({ held, epochs }: Asked): boolean {
    return held.length === this.partitions.size &&
      held.every((one, i) => this.partitions.has(one) && one.epoch === epochs[i]);
  }

  #ask(session: Queryable, asking: Asking, place: Place, limits: PageLimits): Asked {
    const { identity, started } = asking;
    const held = [...this.partitions];
    const epochs = held.map((one) => one.epoch);
    const sent = performance.now();
    const of = held.map(({ number }, i) => ({ number, epoch: epochs[i]! }));
    const answer = askPage(session, identity, started, place, of, limits);
    const asked = { session, place, held, epochs, limits, answer, took: Infinity };
    answer.then(
      () => asked.took = performance.now() - sent,
      (error) => asking.failed?.(error, performance.now() - sent),
    );
    return asked;
  }

  /** Takes over the partitions of another reader that is between windows at the same mark. */
  merge(other: WindowReader): void {
    this.dirty ||= other.dirty;
    this.moved ||= other.moved;
    this.fresh &&= other.fresh;
    this.rung = Math.min(this.rung, other.rung);
    for (const held of other.partitions) {
      this.partitions.add(held);
      held.reader = this;
    }
    other.partitions.clear();
  }
}
