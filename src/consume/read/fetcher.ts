/**
 * Reads notifications from the log, page by page.
 *
 * @module
 */

import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { seam } from "../../observe/seam.ts";
import type { PageLimits, Standing } from "../state/context.ts";
import { isSameMark, type Mark } from "../state/position.ts";
import type { State } from "../state/state.ts";
import { Caution } from "./caution.ts";
import { cut } from "./cut.ts";
import { looking } from "./look.ts";
import { LookPace, LookTime } from "./look_pace.ts";
import { unwokenPace } from "./pace.ts";
import { SharedReads } from "./shared_reads.ts";
import type { ReadPage, WindowReader } from "./window_reader.ts";

/**
 * If a page took longer than this to arrive, in milliseconds, the next one is not requested ahead.
 * Unpacking takes little of such a time. All other queries of the worker would wait for the next
 * page as well.
 */
const quick = 100;

/**
 * Reads for a worker, on the worker's own session, one query at a time. If a page is requested
 * ahead, other queries of the worker come after that page.
 */
export class Fetcher {
  readonly #state: State;
  readonly #readers: WindowReader[];
  /** The smallest page worth a query while there are entries to handle. */
  readonly #worthReading: number;
  readonly #whileReading: () => void;
  /** When rows were last read, by `performance.now()`. */
  #rowsAt = -Infinity;
  /** How many rows were read so far. */
  #found = 0;
  #span = 0;
  readonly #lookTime = new LookTime();
  readonly #pace = new LookPace();
  readonly #caution: Caution;
  readonly #shared: SharedReads;

  /**
   * @param whileReading Called when a page has been requested, so that ready entries are handled while
   *   the server reads.
   */
  constructor(
    state: State,
    readers: WindowReader[],
    whileReading: () => void = () => {},
  ) {
    this.#state = state;
    this.#readers = readers;
    this.#whileReading = whileReading;
    const { limits, readAhead } = state.options;
    this.#caution = new Caution(limits);
    this.#shared = new SharedReads(state);
    this.#worthReading = Math.max(1, Math.floor(Math.min(limits.rows, readAhead) / 2));
  }

  /** How many rows may be read now. 0 if there is no room. */
  get #room(): number {
    return this.#roomBeside({ rows: 0, bytes: 0 });
  }

  /** How many rows may be read in addition to a page that is coming. */
  #roomBeside(coming: Pick<PageLimits, "rows" | "bytes">): number {
    const { options, outstanding, entries: { bytes } } = this.#state;
    if (bytes + coming.bytes >= options.readAheadBytes) return 0;
    const room = Math.min(options.limits.rows, options.readAhead - outstanding - coming.rows);
    return room >= this.#worthReading ? room : 0;
  }

  /** The limits of the page that another reader has requested ahead. */
  #comingFor(reader: WindowReader): Pick<PageLimits, "rows" | "bytes"> {
    const others = this.#readers.filter((other) => other !== reader);
    return others.find((other) => other.ahead !== undefined)?.ahead ?? { rows: 0, bytes: 0 };
  }

  /** Whether there is no room to read more. */
  get isFull(): boolean {
    return this.#room === 0;
  }

  /** Whether the next page of an open window would be requested at once. */
  get goesOn(): boolean {
    return !this.isFull && this.#readers.some((reader) => reader.inWindow);
  }

  /** The situation of the reader, from which `Wakeup` decides whether to sleep. */
  standing(open: boolean): Standing {
    const readers = this.#readers;
    return {
      open: open && readers.length > 0,
      full: this.isFull,
      drained: readers.every((r) => !r.inWindow && r.openedAt > -Infinity),
      busyAt: this.#rowsAt,
      // With a filter, or beside other workers, publishers also wake this worker for notifications
      // that it never reads.
      found: this.#state.readsAll ? this.#found : undefined,
      commitTime: this.#state.commitTime,
      lookTime: this.#lookTime.least,
    };
  }

  /** Whether a reader should look now. */
  #wanted(reader: WindowReader, now: number): boolean {
    const { bell } = this.#state.run;
    if (reader.settled) return now - reader.openedAt >= 500;
    return reader.inWindow || bell.count !== reader.rung ||
      now - reader.openedAt >= this.#interval(reader);
  }

  /** How long a reader that is not woken waits from one look to the next. */
  #interval({ openedAt, hadRows }: WindowReader): number {
    const { options: { pollInterval }, run: { listener, drain } } = this.#state;
    if (listener?.live === true || drain) return pollInterval;
    const awake = this.#pace.next(this.standing(true), performance.now());
    return Math.min(pollInterval, unwokenPace(false, !hadRows, openedAt - this.#rowsAt, awake));
  }

  /** When a reader must look at the latest. */
  nextLook(): number {
    let next = Infinity;
    for (const reader of this.#readers) {
      if (this.#state.run.drain && reader.fresh && !reader.inWindow) continue;
      const wait = reader.settled ? 500 : this.#interval(reader);
      next = Math.min(next, reader.openedAt + wait);
    }
    return next;
  }

  /**
   * Takes from a heartbeat that a mark sees all that is committed. A reader that stands there has looked.
   *
   * @param rung The bell's count before the heartbeat was sent.
   */
  noteNewest(mark: Mark, rung: number): void {
    this.#state.noteCut(mark);
    for (const reader of this.#readers) {
      const isThere = !reader.inWindow && !reader.settled;
      if (isThere && isSameMark(mark, reader.position.seen)) reader.open(mark, rung);
    }
  }

  /**
   * Reads a page for each reader that should have one.
   *
   * @returns whether anything was read or looked for.
   */
  async read(session: Queryable): Promise<boolean> {
    // A drain is over with a window that was opened after the drain began.
    const readers = this.#readers.filter((r) => !this.#state.run.drain || !r.fresh || r.inWindow);
    const now = performance.now();
    const due = readers.filter((reader) => this.#wanted(reader, now));
    if (due.length === 0 || this.isFull) return false;
    const { count: rung } = this.#state.run.bell;
    const opening = due.filter(isBetween);
    if (opening.length === 0) await this.#readTo(session, due, undefined, rung);
    else {
      // All that are between windows read to the same mark, and go on as one.
      due.push(...readers.filter((r) => isBetween(r) && !due.includes(r)));
      if (opening.every((reader) => reader.rung === rung && !reader.hadRows)) {
        // A look now and then is no hurry. By this all readers come to rest at one stored mark.
        const mark = await cut(session);
        this.#state.noteCut(mark);
        await this.#readTo(session, due, mark, rung);
      } else if (this.#shared.may(session, due[0]!, this.#room)) {
        await this.#readTo(session, due, undefined, rung);
      } else {
        await looking(session, async (look) => {
          if (look?.wantsCut) this.#state.wantsCut = true;
          await this.#readTo(session, due, look?.mark, rung);
        });
      }
    }
    this.#merge();
    return true;
  }

  /**
   * Reads a page for each of these readers.
   *
   * @param mark Where windows end that are opened. Undefined for where the log is.
   * @param rung The bell's count before that was asked for.
   */
  async #readTo(
    session: Queryable,
    due: readonly WindowReader[],
    mark: Mark | undefined,
    rung: number,
  ): Promise<void> {
    for (const reader of due) {
      if (!this.#readers.includes(reader)) continue; // its partitions were halted
      const room = this.#roomBeside(this.#comingFor(reader));
      if (room === 0) break;
      const opens = isBetween(reader);
      if (!reader.inWindow && !reader.open(reader.settled ? undefined : mark, rung)) continue;
      const took = await this.#readPage(session, reader, room);
      if (!opens || took === undefined) continue;
      this.#lookTime.note(took);
      mark ??= reader.end;
    }
  }

  /**
   * Reads a page. Returns how long it took to arrive, in milliseconds. Undefined if there was nothing to
   * read.
   */
  async #readPage(
    session: Queryable,
    reader: WindowReader,
    rows: number,
  ): Promise<number | undefined> {
    const { options } = this.#state;
    const read = () => this.#readAlone(session, reader, rows);
    const page = this.#shared.may(session, reader, rows)
      ? await this.#shared.read(session, reader, { sent: this.#whileReading, read })
      : await read();
    if (page === undefined) return undefined;
    if (page.wantsCut) this.#state.wantsCut = true;
    const { rows: received, took } = page;
    if (received.length > 0) {
      seam.observer?.received({ run: this.#state.run.observed, rows: received, took });
    }
    // Notifications that the filter excludes also ring the bell.
    if (page.rows.length > 0 || options.identity.filter !== null && page.span !== this.#span) {
      this.#rowsAt = performance.now();
    }
    this.#found += page.rows.length;
    this.#span = page.span;
    const { partitions, entries } = this.#state;
    for (const row of page.rows) {
      const held = partitions.get(row.partition);
      if (held !== undefined && held.halted === undefined) entries.read(row, held, page.position);
    }
    return took;
  }

  async #readAlone(session: Queryable, reader: WindowReader, rows: number): Promise<ReadPage> {
    const { options, started } = this.#state;
    const caution = this.#caution;
    caution.prepare(session);
    const reading = reader.read(session, {
      identity: options.identity,
      limits: caution.limits(rows),
      started: started!,
      ahead: (page) => {
        // One page ahead for all readers: the connection brings one at a time, and every page that
        // is coming counts against the room.
        const one = ownConnection(session) !== undefined && this.#comingFor(reader).rows === 0;
        const room = one && page.took < quick ? this.#roomBeside(page) : 0;
        return room === 0 ? undefined : caution.limits(room);
      },
      failed: (error, took) => caution.failed(error, took),
    });
    this.#whileReading();
    const page = await reading;
    caution.succeeded(page.took);
    return page;
  }

  /** Makes one of the readers that are between windows at the same mark. */
  #merge(): void {
    if (this.#readers.length < 2) return;
    for (const reader of [...this.#readers]) {
      const first = this.#readers.find((one) => isAlike(one, reader));
      if (first === undefined || first === reader) continue;
      first.merge(reader);
      this.#state.removeWindowReader(reader);
    }
  }
}

/** Whether a reader is between windows, and may open one to any mark. */
function isBetween({ inWindow, settled }: WindowReader): boolean {
  return !inWindow && !settled;
}

/**
 * Whether both are between windows at the same mark. Where they began makes no difference by then,
 * unless nothing is seen yet: it differs only after a restore, and what lies there counts as read.
 */
function isAlike({ position: a, inWindow }: WindowReader, other: WindowReader): boolean {
  const { position: b } = other;
  return !inWindow && !other.inWindow && isSameMark(a.seen, b.seen) &&
    (a.seen.number !== 0 || a.afterId === b.afterId);
}
