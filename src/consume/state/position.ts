/**
 * Marks, which all readers share, and positions, which rest on them.
 *
 * @module
 */

import { HarkError } from "../../errors.ts";

/** A mark, as readers hold it: by content. */
export interface Mark {
  /** Its name among the marks of its life. Negative for a private one, which is not stored. */
  readonly number: number;
  /** The server's incarnation when it was cut. */
  readonly life: string;
  /** Which transactions had ended, as PostgreSQL writes it. */
  readonly snapshot: string;
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
  const [, number, life, snapshot] =
    /^\((-?\d+),([0-9a-f-]{36}),(?:"[^"]*"|[^,]*),("[^"]*"|[^,]*),/.exec(String(content)) ?? [];
  if (life === undefined || snapshot === undefined) {
    throw new HarkError("DATABASE", "the server returned something that is not a mark");
  }
  return { number: Number(number), life, snapshot, content: content as string };
}

/** Whether a mark is not stored. */
export function isPrivate(mark: Mark | undefined): boolean {
  return mark !== undefined && mark.number < 0;
}

/** Whether two marks are one. */
export function isSameMark(a: Mark | undefined, b: Mark | undefined): boolean {
  return a?.number === b?.number && a?.life === b?.life;
}

/**
 * Whether a mark is later than another: of a later life, or its snapshot sees more. Snapshots of one
 * server are ordered by xmax, then by fewest running.
 */
export function isLater(a: Mark, b: Mark): boolean {
  if (a.life !== b.life) return a.life > b.life;
  const [[upperA, runningA], [upperB, runningB]] = [orderOf(a), orderOf(b)];
  return upperA > upperB || upperA === upperB && runningA < runningB;
}

function orderOf({ snapshot }: Mark): [upper: bigint, running: number] {
  const [, upper, running] = /^"?\d+:(\d+):([\d,]*)"?$/.exec(snapshot)!;
  return [BigInt(upper!), running === "" ? 0 : running!.split(",").length];
}

/** Whether two marks see the same. They may differ otherwise. */
export function seeTheSame(a: Mark | undefined, b: Mark | undefined): boolean {
  return a?.life === b?.life && a?.snapshot === b?.snapshot;
}

/** Whether two positions are at the same place. */
export function isSamePlace(a: Position, b: Position): boolean {
  return isSameMark(a.seen, b.seen) && isSameMark(a.target, b.target) &&
    a.lastId === b.lastId && a.afterId === b.afterId;
}
