/**
 * Reads snapshot windows for some partitions of a consumer. One scan serves all partitions with the
 * same position.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { queryPrepared } from "../../database/prepared.ts";
import { translated } from "../../database/translate.ts";
import type { OwnedPartition, PositionSource } from "../state/partition.ts";
import type { PageLimits } from "../state/context.ts";
import { type Identity, numbersText } from "../state/identity.ts";
import {
  type PackedPage,
  type Page,
  pageAfter,
  pageColumns,
  parsePage,
  spanWorthStoring,
} from "./page.ts";

// A page that passes its window takes a transaction number, and any page may have set hint bits.
// Its commit would wait for the disk or for a standby, although nothing depends on it.
const readSql = `select ${pageColumns}, w.bounded, w.settled,
 pg_catalog.set_config('synchronous_commit', 'off', true) as unwaited
from hark.window($1::text, $2::uuid, $3::text::integer[], $4::text::bigint[], $5::text::hark.position,
 $6::text::hark.position) w,
lateral hark.page(w."position", w.channels, $7::integer, $8::bigint, $9::integer,
 $10::text::pg_snapshot, w.filter, w.partitions,
 case when w.partitions > cardinality($3::text::integer[]) then $3::text::integer[] end, $11::text, true) g`;

/** A requested page, and the partitions it is for. */
interface Asked {
  readonly session: Queryable;
  readonly position: string;
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
  /** The snapshot taken when the run started. Notifications visible in it are replays. */
  readonly started: string;
  /** The bell's count so far. */
  readonly rung: number;
  /** The reader to whose snapshot a new window is opened. */
  readonly alike: WindowReader | undefined;
  /**
   * Returns the limits of the next page of the window. That page is requested before this one is
   * unpacked, so that the server reads at the same time. Without this function, or if it returns
   * undefined, no page is requested ahead.
   */
  readonly ahead?: (page: ArrivedPage) => PageLimits | undefined;
  /** Called with the error of a failed request, whether or not the page is taken. */
  readonly failed?: (error: unknown, took: number) => void;
}

/** A page, and how long it took to arrive, in milliseconds. */
export interface ReadPage extends Page {
  readonly took: number;
}

/** A position that is read from, shared by partitions. */
export class WindowReader implements PositionSource {
  readonly partitions = new Set<OwnedPartition>();
  /** The position as loaded, or after the pages read since. */
  position: string;
  /** Whether a window is open that is not read to its end. */
  inWindow: boolean;
  /** Whether a window is read to its end and not yet passed. */
  ended = false;
  /**
   * Whether there is something to store: rows were read, many ids were passed, or part of a window
   * was stored.
   */
  dirty: boolean;
  /**
   * Whether the last window ended with its first page. Then the reader is at the end of the log.
   */
  caughtUp = false;
  /** Whether a window that was opened in this run has been read to its end. */
  fresh = false;
  /**
   * The bell's count when the window was opened. Notifications that ring later are not in the
   * window.
   */
  rung = -1;
  /** When the window was opened. */
  openedAt = -Infinity;
  /** Whether the window had rows. */
  hadRows = false;
  /** Whether there is nothing more to read until the number of partitions has changed. */
  settled = false;
  /** The same object for readers whose windows reach the same snapshot. */
  tag: object = {};
  #before: string;
  /** The position past the window that has ended, if it is known. */
  #next: string | undefined;
  #pages = 0;
  #own: boolean;
  #bounded = false;
  #span = 0;
  /** The next page of the window, requested before the previous one was unpacked. */
  #ahead: Asked | undefined;

  constructor(position: string, inWindow: boolean) {
    this.position = this.#before = position;
    this.inWindow = this.dirty = inWindow;
    this.#own = !inWindow;
  }

  /**
   * The limits of the page that was requested ahead and not taken yet. Undefined if there is none.
   */
  get ahead(): PageLimits | undefined {
    return this.#ahead?.limits;
  }

  /** Reads the next page of the window, or opens a window. */
  async read(session: Queryable, asking: Asking): Promise<ReadPage> {
    const { identity, alike } = asking;
    if (!this.inWindow) {
      this.rung = alike?.rung ?? asking.rung;
      this.openedAt = performance.now();
      this.hadRows = false;
      this.#pages = 0;
      this.#own = true;
      this.#bounded = false;
      this.#before = this.position;
    }
    const asked = this.#asked(session) ?? this.#ask(session, asking, this.position, asking.limits);
    this.#ahead = undefined;
    const packed = await asked.answer;
    const next = pageAfter(packed);
    const limits = next &&
      asking.ahead?.({ rows: asked.limits.rows, bytes: next.bytes, took: asked.took });
    // Not while the reader's partitions change: a page requested for other partitions would be
    // thrown away.
    if (next && limits && this.#isFor(asked)) {
      this.#ahead = this.#ask(session, asking, next.position, limits);
    }
    const page = parsePage(packed, identity.channels[0]!);
    if (!this.inWindow) this.tag = alike?.tag ?? {};
    this.position = page.position;
    this.#next = page.next;
    this.settled = page.facts.settled === true;
    this.inWindow = !page.windowEnd;
    this.ended = page.windowEnd;
    this.#pages++;
    this.#span = Math.max(this.#span, page.span);
    if (page.rows.length > 0) this.dirty = this.hadRows = true;
    if (page.facts.bounded === true) this.#bounded = true;
    if (this.#span > spanWorthStoring || this.#bounded) this.dirty = true;
    if (page.windowEnd) {
      this.caughtUp = this.#pages === 1 && page.rows.length < asked.limits.rows;
      if (this.#own) this.fresh = true;
    }
    return { ...page, took: asked.took };
  }

  /** The page requested ahead, if it is the page wanted now. */
  #asked(session: Queryable): Asked | undefined {
    const ahead = this.#ahead;
    return ahead !== undefined && ahead.session === session && ahead.position === this.position &&
        this.#isFor(ahead)
      ? ahead
      : undefined;
  }

  /** Whether the partitions and their epochs are still the same as when a page was requested. */
  #isFor({ held, epochs }: Asked): boolean {
    return held.length === this.partitions.size &&
      held.every((one, i) => this.partitions.has(one) && one.epoch === epochs[i]);
  }

  #ask(session: Queryable, asking: Asking, position: string, limits: PageLimits): Asked {
    const { identity, alike, started } = asking;
    const held = [...this.partitions];
    const epochs = held.map((one) => one.epoch);
    const sent = performance.now();
    const answer = translated(() =>
      queryPrepared(session, readSql, [
        identity.consumer,
        identity.owner,
        numbersText(held.map((one) => one.number)),
        numbersText(epochs),
        position,
        alike?.position ?? null,
        limits.rows,
        limits.bytes,
        limits.scanned,
        started,
        identity.channels[0],
      ])
    );
    const asked = { session, position, held, epochs, limits, answer, took: Infinity };
    answer.then(
      () => asked.took = performance.now() - sent,
      (error) => asking.failed?.(error, performance.now() - sent),
    );
    return asked;
  }

  /** How many ids the window spans: the largest value that its pages reported. */
  get span(): number {
    return this.#span;
  }

  /** Whether the window must be passed. An empty window may be discarded instead. */
  get counts(): boolean {
    return this.hadRows || this.#bounded || !this.#own || this.#span > spanWorthStoring;
  }

  /** Discards an empty window, so that idle reading writes nothing. */
  discard(): void {
    this.passed(this.#before);
  }

  /** Passes a window that was read to its end, without storing that. */
  async pass(session: Queryable): Promise<void> {
    if (this.#next !== undefined) {
      this.passed(this.#next);
      return;
    }
    const { rows } = await translated(() =>
      session.query(`select hark.window_skip($1::text::hark.position)::text as "position"`, [
        this.position,
      ])
    );
    this.passed(rows[0].position);
  }

  /** Records that the window is passed. */
  passed(position: string): void {
    this.position = position;
    this.#next = undefined;
    this.ended = false;
    this.#span = 0;
  }

  /** Takes over the partitions of another reader that has passed a window to the same snapshot. */
  async merge(session: Queryable, other: WindowReader): Promise<void> {
    const { rows } = await translated(() =>
      session.query(
        `select hark.merged($1::text::hark.position, $2::text::hark.position)::text as "position"`,
        [this.position, other.position],
      )
    );
    this.position = rows[0].position;
    this.dirty ||= other.dirty;
    this.fresh &&= other.fresh;
    for (const held of other.partitions) {
      this.partitions.add(held);
      held.reader = this;
    }
    other.partitions.clear();
  }
}
