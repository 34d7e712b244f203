/**
 * Positions outside of the database, as text: a browser, a file or another program keeps one and goes
 * on from it later.
 *
 * @module
 */

import type { Place } from "../notification.ts";
import type { Mark, Position } from "./position.ts";

/*
 * A position is that of a reader: all that one mark sees is read, and of the window up to another
 * mark the ids up to one. As text, in characters that a URL takes as they are:
 *
 *     1 install . life upper ~running number . id . after mark [seen]
 *
 * Numbers are in base 36, behind a digit that says how long they are, so that they sort as text. The
 * later mark comes first, in the order of marks: by life, by upper, fewest running last. Between
 * windows `z` stands for the id, which is behind all of them. So positions of one stream sort in the
 * order in which it is read.
 *
 * A mark also has its content here if that is short, as it is unless many transactions were running.
 * Then the position is good after the mark's row has been thinned. A private mark has no row and no
 * fence. So it always has its content. Its number has a 0 before it: it sorts before a stored mark that
 * sees the same, to which a reader goes on from it.
 */

/** No position is longer. */
export const longest = 200;
/** What each position begins with. */
export const version = "1";
/** What stands for the id between windows. */
export const betweenWindows = "z";

/** What is needed of a mark. */
export interface Parts {
  readonly number: bigint;
  readonly life: string;
  readonly takenAt: bigint;
  readonly upper: bigint;
  readonly running: bigint;
  /** Undefined if it is too long: then only the mark's row has it. */
  readonly content: Content | undefined;
}

/** What a mark's name does not tell. */
export interface Content {
  readonly maxId: bigint;
  readonly floor: bigint;
  /** Undefined of a private mark. */
  readonly fence: bigint | undefined;
  readonly stragglers: readonly bigint[];
  readonly lows: readonly bigint[];
}

/** Writes a number so that texts sort as numbers do. */
function sortable(n: bigint): string {
  const digits = n.toString(36);
  return digits.length.toString(36) + digits;
}

/** Turns the order round. */
export function reversed(text: string): string {
  return text.replace(/./g, (digit) => (35 - parseInt(digit, 36)).toString(36));
}

/** Writes a mark's number. Those of private marks are negative. */
function named(number: bigint): string {
  return number < 0n ? `0${sortable(-number)}` : sortable(number);
}

/** The columns of a row as PostgreSQL writes it. No value here has a quote of its own. */
function columnsOf(row: string): string[] {
  return [...row.slice(1, -1).matchAll(/(?:^|,)(?:"([^"]*)"|([^,]*))/g)]
    .map(([, quoted, plain]) => quoted ?? plain!);
}

const listed = (text: string) => (text.match(/\d+/g) ?? []).map(BigInt);

/** Reads a mark from its content, as hark.content_of writes it. */
function partsOf(row: string): Parts {
  const [number, life, takenAt, , upper, running, maxId, floor, , stragglers, lows, fence] =
    columnsOf(row);
  // Rounded down, and at worst the beginning of time: that is only ever too early.
  const at = Math.floor(Date.parse(takenAt!.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00")));
  return {
    number: BigInt(number!),
    life: life!.replaceAll("-", ""),
    takenAt: at > 0 ? BigInt(at) : 0n,
    upper: BigInt(upper!),
    running: BigInt(running!),
    content: {
      maxId: BigInt(maxId!),
      floor: BigInt(floor!),
      fence: fence === "" ? undefined : BigInt(fence!),
      stragglers: listed(stragglers!),
      lows: listed(lows!),
    },
  };
}

/** The last id that was drawn when a mark was cut. */
export function maxIdOf(mark: Mark): number {
  return Number(columnsOf(mark.content)[6]);
}

/** An id that all rows lie above which a mark does not see. */
export function lowOf(mark: Mark): number {
  return Number(columnsOf(mark.content)[8]);
}

/** Writes what follows a mark's name. */
function written({ takenAt, upper, content }: Parts, whole: boolean): string {
  if (!whole || content === undefined) return `n${sortable(takenAt)}`;
  const { maxId, floor, fence, stragglers, lows } = content;
  const pairs = stragglers.map((xid, i) => sortable(upper - xid) + sortable(maxId - lows[i]!));
  return `c${sortable(takenAt)}${sortable(maxId)}${sortable(maxId - floor)}` +
    `${fence === undefined ? "" : sortable(fence - upper)}${pairs.join("")}`;
}

/** The positions in a window of a reader, as text. */
export class OutsidePlace implements Place {
  readonly #install: string;
  readonly #position: Position;
  #texts: Texts | undefined;

  /**
   * @param install The first characters of the installation's id.
   * @param position Of the window. Its last id does not matter.
   */
  constructor(install: string, position: Position) {
    this.#install = install;
    this.#position = position;
  }

  after(id?: number): string {
    // Few of those that read ask for a position.
    const { head, rest } = this.#texts ??= textsOf(this.#install, this.#position);
    return head + (id === undefined ? betweenWindows : sortable(BigInt(id))) + rest;
  }
}

interface Texts {
  readonly head: string;
  readonly rest: string;
  /** Whether the content of both marks is in it. */
  readonly isWhole: boolean;
}

/** What is before the id and behind it. */
function textsOf(install: string, { seen, target, afterId }: Position): Texts {
  const late = partsOf((target ?? seen).content);
  const early = target === undefined ? undefined : partsOf(seen.content);
  const head = `${version}${install}.${late.life}${sortable(late.upper)}` +
    `${reversed(sortable(late.running))}${named(late.number)}.`;
  const tail = (lateWhole: boolean, earlyWhole: boolean) =>
    `.${sortable(BigInt(afterId))}${written(late, lateWhole)}` +
    (early === undefined
      ? ""
      : `${early.life === late.life ? "s" : `o${early.life}`}${sortable(early.upper)}` +
        `${sortable(early.running)}${named(early.number)}${written(early, earlyWhole)}`);
  // Of the two, it is better to have the window's end: without it the window is read again. But a
  // private mark cannot be looked for.
  const room = longest - head.length - 12;
  const [first, second] = [[true, false], [false, true]] as const;
  const orders = early !== undefined && early.number < 0n ? [second, first] : [first, second];
  const whole = tail(true, true);
  const isWhole = whole.length <= room;
  const rest = isWhole
    ? whole
    : orders.map(([a, b]) => tail(a, b)).find((text) => text.length <= room);
  return { head, rest: rest ?? tail(false, false), isWhole };
}

/** Whether each position in a window up to a private mark has room for the content of both marks. */
export function fitsWhole(install: string, seen: Mark, target: Mark, afterId: number): boolean {
  return textsOf(install, { seen, target, lastId: 0, afterId }).isWhole;
}
