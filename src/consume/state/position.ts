/**
 * Marks, which all readers share, and positions, which rest on them.
 *
 * @module
 */

import { HarkError } from "../../errors.ts";

/** A mark, as readers hold it: by content. */
export interface Mark {
  /** Its name among the marks of its life. */
  readonly number: number;
  /** The server's incarnation when it was cut. */
  readonly life: string;
  /** A row of hark.marks, as hark.content_of writes it. */
  readonly content: string;
}

/** How far a partition or a reader has read. */
export interface Position {
  /** What this mark sees is read. */
  readonly seen: Mark;
  /** The end of the window that is being read. Undefined between windows. */
  readonly target: Mark | undefined;
  /** The last id that was read inside the window. */
  readonly lastId: number;
  /** Ids up to this one are not the reader's business: it began behind them. */
  readonly afterId: number;
}

/** Reads a mark from its content. */
export function markOf(content: unknown): Mark {
  const [, number, life] = /^\((\d+),([0-9a-f-]{36}),/.exec(String(content)) ?? [];
  if (life === undefined) {
    throw new HarkError("DATABASE", "the server returned something that is not a mark");
  }
  return { number: Number(number), life, content: content as string };
}

/** Whether two marks are one. */
export function isSameMark(a: Mark | undefined, b: Mark | undefined): boolean {
  return a?.number === b?.number && a?.life === b?.life;
}

/** Whether two positions are at the same place. */
export function isSamePlace(a: Position, b: Position): boolean {
  return isSameMark(a.seen, b.seen) && isSameMark(a.target, b.target) &&
    a.lastId === b.lastId && a.afterId === b.afterId;
}
