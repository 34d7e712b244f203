/**
 * Where one client stands, and what it is given next.
 *
 * @module
 */

import type { EphemeralReader } from "../consume/read/ephemeral_reader.ts";
import type { Page } from "../consume/read/page.ts";
import type { SubscriptionGap } from "../consume/subscribe_options.ts";
import { pause } from "../database/bell.ts";
import { isPassing, translate } from "../database/translate.ts";
import type { Edge, Item } from "./edge.ts";
import type { Source } from "./source.ts";

/** Where a client begins: the beginning, now, or behind a position. */
export type Start = "beginning" | "now" | { readonly position: string };

/** What a client is given. */
export interface Batch {
  /** Notifications, in order. */
  readonly items: readonly Item[];
  /** Where the client is behind them. */
  readonly position: string;
  /** Whether that is the end of the log. */
  readonly upToDate: boolean;
  /** What cleaning removed before it was read, or may have. */
  readonly gap: SubscriptionGap | undefined;
}

/** The most notifications of a batch. */
const mostItems = 200;

/** Reads the next page of a reader that is behind, in its turn. */
async function readPage(
  source: Source,
  reader: EphemeralReader,
  signal: AbortSignal,
  edge: Edge | undefined,
): Promise<{ page: Page; resuming: boolean }> {
  const { resuming } = reader;
  // Windows end where the edge is: so that the reader gets there.
  const until = edge === undefined || reader.mark === undefined
    ? undefined
    : await edge.fresh(signal);
  const page = await source.turn(signal, (session) => reader.read(session, until));
  return { page, resuming };
}

function itemsOf(page: Page): Item[] {
  return page.rows.map((row) => ({ position: row.place!.after(row.id), row }));
}

/** Starts a reader. Returns what was cleaned behind its position. */
async function begin(
  source: Source,
  reader: EphemeralReader,
  start: Start,
  signal: AbortSignal,
): Promise<SubscriptionGap | undefined> {
  return await source.turn(signal, async (session) => {
    if (typeof start === "object") return (await reader.resume(session, start.position)).gap;
    await reader.start(session, [start, null, null], false);
    source.install = reader.install;
    return undefined;
  });
}

/** Reads what there is behind a start, at most a page, and does not wait. */
export async function readOnce(
  source: Source,
  channels: string[] | null,
  start: Start,
  signal: AbortSignal,
): Promise<Batch> {
  const reader = source.reader(channels);
  let gap = await begin(source, reader, start, signal);
  if (start === "now") return { items: [], position: reader.position!, upToDate: true, gap };
  const until = performance.now() + 5000;
  let windows = 0;
  for (let found: Item[] = [];;) {
    const { page, resuming } = await readPage(source, reader, signal, undefined);
    gap ??= reader.takeGap();
    const ended = page.windowEnd && !resuming;
    found = [...found, ...itemsOf(page)];
    if (ended) windows++;
    // The next window is most often empty. Its end is where the next client finds the log too. On a
    // busy channel each window has rows: without an end to that, marks would be cut for 5 seconds.
    const isOver = ended && (page.rows.length === 0 || windows === 2);
    if (page.rows.length === 0 && !isOver) await pause(0, signal);
    if (isOver || found.length > 0 && !page.windowEnd || performance.now() > until) {
      return { items: found, position: reader.position!, upToDate: ended, gap };
    }
  }
}

/** A client that follows the log. */
export class Cursor {
  readonly #source: Source;
  readonly #channels: string[] | null;
  readonly #edge: Edge;
  readonly #leave: () => void;
  readonly #signal: AbortSignal;
  /** The number of the next step of the edge. Undefined while the client is behind. */
  #next: number | undefined;
  #reader: EphemeralReader | undefined;
  #gap: SubscriptionGap | undefined;
  #position = "";
  #failures = 0;
  /** Whether the end of the log is where the client stands, though the edge knows no step there. */
  #stands = false;
  /** Ends the waiting for the edge. */
  #wake: (() => void) | undefined;
  readonly #over = () => this.#wake?.();

  private constructor(source: Source, channels: string[] | null, signal: AbortSignal) {
    this.#source = source;
    this.#channels = channels;
    this.#signal = signal;
    signal.addEventListener("abort", this.#over, { once: true });
    const { edge, leave } = source.use(channels);
    this.#edge = edge;
    this.#leave = leave;
  }

  /**
   * Opens one. Close it.
   *
   * @param signal Ends what waits.
   */
  static async open(
    source: Source,
    channels: string[] | null,
    start: Start,
    signal: AbortSignal,
  ): Promise<Cursor> {
    const cursor = new Cursor(source, channels, signal);
    try {
      await cursor.#begin(start);
      return cursor;
    } catch (error) {
      cursor.close();
      throw error;
    }
  }

  /** Where the client is. */
  get position(): string {
    return this.#position;
  }

  /** What was cleaned behind the position from which the client goes on. */
  get gap(): SubscriptionGap | undefined {
    return this.#gap;
  }

  /** Whether the client has been given everything, as far as the edge knows. */
  get upToDate(): boolean {
    if (this.#next === undefined) return this.#stands;
    return this.#next === this.#edge.end && this.#edge.settled;
  }

  async #begin(start: Start): Promise<void> {
    if (start === "now") {
      await this.#edge.fresh(this.#signal);
      this.#next = this.#edge.end;
      this.#position = this.#edge.position;
      return;
    }
    if (typeof start === "object") {
      this.#position = start.position;
      this.#next = this.#edge.behind(start.position);
      if (this.#next !== undefined) return;
    }
    this.#reader = this.#source.reader(this.#channels);
    this.#gap = await begin(this.#source, this.#reader, start, this.#signal);
    this.#position = this.#reader.position!;
  }

  /**
   * What comes next. Undefined if nothing has come by a time of `performance.now()`. A batch may be
   * empty: then only the position has moved.
   */
  async next(until: number): Promise<Batch | undefined> {
    for (;;) {
      this.#signal.throwIfAborted();
      if (this.#next === undefined) {
        const batch = await this.#readBehind(until);
        if (batch !== undefined) return batch;
        if (performance.now() >= until) return undefined;
        continue;
      }
      const steps = this.#edge.from(this.#next, mostItems);
      if (steps === undefined) {
        // It was slower than the edge keeps things for it.
        this.#next = undefined;
        this.#reader = undefined;
        continue;
      }
      if (steps.length > 0) {
        this.#next += steps.length;
        this.#position = steps.at(-1)!.position;
        return {
          items: steps.filter(({ row }) => row !== undefined),
          position: this.#position,
          upToDate: this.upToDate,
          gap: undefined,
        };
      }
      if (performance.now() >= until) return undefined;
      await this.#edge.wait(until, (wake) => this.#wake = wake);
      this.#wake = undefined;
    }
  }

  /**
   * Reads a page by itself. Undefined if there was nothing, or no server. Reading may have asked no server
   * anything. So what finds nothing waits: else no timer and no socket of the process would have its turn.
   */
  async #readBehind(until: number): Promise<Batch | undefined> {
    const stood = this.#stands;
    this.#stands = false;
    const { end } = this.#edge;
    try {
      if (this.#reader === undefined) {
        const reader = this.#source.reader(this.#channels);
        const start = { position: this.#position };
        this.#gap = await begin(this.#source, reader, start, this.#signal);
        this.#reader = reader;
      }
      const reader = this.#reader;
      const { page, resuming } = await readPage(this.#source, reader, this.#signal, this.#edge);
      this.#failures = 0;
      this.#position = reader.position!;
      const gap = reader.takeGap() ?? this.#gap;
      this.#gap = undefined;
      const ended = page.windowEnd && !resuming;
      if (ended) {
        this.#next = this.#edge.behind(this.#position);
        if (this.#next !== undefined) this.#reader = undefined;
      }
      if (page.rows.length === 0 && gap === undefined) {
        this.#stands = ended && this.#next === undefined;
        // A mark that is not stored has no step, and a replica may have no later one for long.
        if (this.#stands && stood && this.#edge.end === end) {
          const most = Math.min(until, performance.now() + 1000);
          await this.#edge.wait(most, (wake) => this.#wake = wake);
          this.#wake = undefined;
          return undefined;
        }
        await pause(0, this.#signal);
        if (!ended) return undefined;
      }
      return { items: itemsOf(page), position: this.#position, upToDate: ended, gap };
    } catch (error) {
      this.#signal.throwIfAborted();
      const reason = translate(error);
      if (!isPassing(reason)) throw reason;
      if (reason.code === "WINDOW_LOST" && this.#reader !== undefined) this.#reader.lost = true;
      await pause(Math.min(5000, 100 * 2 ** this.#failures++), this.#signal);
      return undefined;
    }
  }

  /** Leaves the edge. */
  close(): void {
    // The signal may live as long as the server.
    this.#signal.removeEventListener("abort", this.#over);
    this.#leave();
  }
}
