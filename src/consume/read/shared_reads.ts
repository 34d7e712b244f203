/**
 * A worker's part in what the consumers of a process read in common.
 *
 * @module
 */

import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { isLater, isSameMark, type Mark } from "../state/position.ts";
import type { State } from "../state/state.ts";
import { commonLimits } from "./common_page.ts";
import { readTogether } from "./common_read.ts";
import type { ReadPage, WindowReader } from "./window_reader.ts";

/** For how long a worker reads by itself that could not read with others, in milliseconds. */
const aloneTime = 10_000;
/** For how long one whose pages are large reads with its equals only, in milliseconds. */
const heavyTime = 10_000;
/** A page in common compares the definitions of all that read it. One with more channels reads alone. */
const mostChannels = 64;

/** How a worker reads without others. */
export interface Alone {
  /** Called when others have asked the server for it. */
  sent(): void;
  /** Reads the page that the reader is to read next. */
  read(): Promise<ReadPage>;
}

/**
 * Reads with others that stand at the same place, where that serves the worker as well as reading by
 * itself: at the live edge of the log.
 */
export class SharedReads {
  readonly #state: State;
  /** Whether its consumer is one that may. */
  readonly #isFit: boolean;
  #aloneUntil = -Infinity;
  #heavyUntil = -Infinity;
  /** Where the window ends that is being read with others. */
  #window: Mark | undefined;

  constructor(state: State) {
    this.#state = state;
    const { limits, identity: { filter, channels } } = state.options;
    this.#isFit = filter === null && channels.length <= mostChannels && !state.run.drain &&
      limits.rows >= commonLimits.rows && limits.bytes >= commonLimits.bytes;
  }

  /**
   * Whether a page may be read with others.
   *
   * @param rows For how many rows there is room.
   */
  may(session: Queryable, reader: WindowReader, rows: number): boolean {
    if (!this.#isFit || ownConnection(session)?.sibling === undefined) return false;
    const { options, readers, started, entries: { bytes } } = this.#state;
    const { position: { seen, target }, ahead, settled } = reader;
    return rows >= commonLimits.rows && bytes + commonLimits.bytes <= options.readAheadBytes &&
      performance.now() >= this.#aloneUntil &&
      readers.length === 1 && ahead === undefined && !settled &&
      // One that is far behind asks for pages ahead.
      (target === undefined || isSameMark(target, this.#window)) &&
      // There are no replays among what is read in common.
      seen.number !== 0 && !isLater(started!, seen);
  }

  /**
   * Reads a page with others, or by itself if there are none. Undefined if it turns out that there is
   * nothing to read.
   */
  async read(
    session: Queryable,
    reader: WindowReader,
    { sent, read }: Alone,
  ): Promise<ReadPage | undefined> {
    this.#window = undefined;
    const now = performance.now();
    return await readTogether<ReadPage | undefined>(session, {
      wish: {
        identity: this.#state.options.identity,
        held: [...reader.partitions].map(({ number, epoch }) => ({ number, epoch })),
        partitions: this.#state.partitionCount,
        place: reader.place,
      },
      isHeavy: now < this.#heavyUntil,
      sent,
      take: ({ page, target, took, isHeavy }) => {
        if (isHeavy) this.#heavyUntil = performance.now() + heavyTime;
        if (!page.windowEnd) this.#window = target;
        return reader.take(page, target, took);
      },
      alone: async (mark, isRefused) => {
        if (isRefused) this.#aloneUntil = performance.now() + aloneTime;
        const opens = mark !== undefined && !reader.inWindow;
        return opens && !reader.open(mark, reader.rung) ? undefined : await read();
      },
    });
  }
}
