/**
 * A page of a window that several consumers of a process read in common.
 *
 * @module
 */

import { queryPrepared } from "../../database/prepared.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import type { PageLimits } from "../state/context.ts";
import type { Held, Identity } from "../state/identity.ts";
import { type Mark, markOf } from "../state/position.ts";
import { copiesOf, type Page, pageColumns, type PageRow, parsePage, sizeOfRow } from "./page.ts";
import type { Place } from "./window_page.ts";

/** The limits of a page that is read in common. A consumer with smaller ones reads by itself. */
export const commonLimits: PageLimits = { rows: 500, bytes: 1024 * 1024, scanned: 20_000 };

/** Up to this size a page is small, in bytes: to read it costs those little that want none of it. */
const small = 256 * 1024;

// As of a window of one consumer. No row is a replay: the mark that is seen sees none of the window.
const commonSql = `select ${pageColumns}, w.routes, hark.wants_cut(w.target) as wants_cut,
 hark.content_of(w.target) as target, pg_catalog.set_config('synchronous_commit', 'off', true) as unwaited
from hark.common_window($1::text::json, $2::integer, $3::text::hark.marks, $4::text::hark.marks) w,
lateral hark.page($4::text::hark.marks, w.target, $5::bigint, $6::bigint, w.channels, $7::integer, $8::bigint,
 $9::integer, $4::text::hark.marks, null, $2::integer, null, $10::text) g`;

/** A page that a worker wants. */
export interface Wish {
  readonly identity: Identity;
  readonly held: Held;
  /** The consumer's number of partitions, as far as the worker knows. */
  readonly partitions: number;
  readonly place: Place;
}

/** What a page has for one of those that read it in common. */
export interface Share {
  /** The page, with the rows of this one only. */
  readonly page: Page;
  /** Where its window ends. */
  readonly target: Mark;
  /** How long it took to arrive, in milliseconds. */
  readonly took: number;
  /** Whether the page is large, and half of it or more is for this one. */
  readonly isHeavy: boolean;
}

/**
 * Reads a page for all that wish for one at the same place, and have the same number of partitions.
 *
 * @param mark Where a window ends that is opened. By default where the log is.
 * @returns the share of each. Undefined for one that has to read by itself.
 */
export async function readInCommon(
  session: Queryable,
  wishes: readonly Wish[],
  mark: Mark | undefined,
): Promise<(Share | undefined)[]> {
  const { partitions, place: { seen, target, lastId } } = wishes[0]!;
  const usual = wishes[0]!.identity.channels[0]!;
  const sent = performance.now();
  const packed = await translated(() =>
    queryPrepared(session, commonSql, [
      JSON.stringify(wishes.map(memberOf)),
      partitions,
      (target ?? mark)?.content ?? null,
      seen.content,
      lastId ?? null,
      Math.min(...wishes.map(({ place }) => place.afterId)),
      commonLimits.rows,
      commonLimits.bytes,
      commonLimits.scanned,
      usual,
    ])
  );
  const took = performance.now() - sent;
  const row = packed.rows[0];
  // None of them may read this way.
  if (row === undefined) return wishes.map(() => undefined);
  const page = parsePage(packed, usual);
  const end = markOf(row.target);
  const sharing = new Sharing(page.rows);
  sharing.requireOwners(wishes.filter((_, n) => row.routes[n] === "1"));
  const isLarge = !page.windowEnd || sharing.bytes > small;
  let isFirst = true;
  return wishes.map((wish, n) => {
    if (row.routes[n] !== "1") return undefined;
    const rows = sharing.rowsFor(wish);
    const isHeavy = isLarge && 2 * sharing.sizeOf(rows) >= sharing.bytes;
    // One of them stores a mark, if it is time for one.
    const facts = isFirst ? page.facts : { ...page.facts, wants_cut: false };
    isFirst = false;
    return { page: { ...page, rows: sharing.freed(rows), facts }, target: end, took, isHeavy };
  });
}

const memberOf = ({ identity: { consumer, owner, channels }, held }: Wish) => ({
  consumer,
  owner,
  channels,
  held: held.map(({ number }) => number),
  epochs: held.map(({ epoch }) => epoch),
});

/** The rows of a page, and whose they are. */
class Sharing {
  readonly #rows: readonly PageRow[];
  readonly #byChannel: ReadonlyMap<string, readonly PageRow[]>;
  readonly #copies = new Map<readonly PageRow[], readonly PageRow[]>();
  /** Of lists that several have. */
  readonly #sizes = new Map<readonly PageRow[], number>();

  constructor(rows: readonly PageRow[]) {
    this.#rows = rows;
    this.#byChannel = Map.groupBy(rows, ({ channel }) => channel);
  }

  /**
   * Refuses rows that nothing here has asked for. Then a name of a channel does not come back from the
   * server as it was sent, which may be where its encoding is not UTF-8. Rows would be lost.
   */
  requireOwners(wishes: readonly Wish[]): void {
    const names = new Set(wishes.flatMap(({ identity: { channels } }) => channels));
    for (const channel of this.#byChannel.keys()) {
      if (names.has(channel)) continue;
      throw new HarkError("DATABASE", `the server returned rows of another channel: ${channel}`);
    }
  }

  /** The size of all. */
  get bytes(): number {
    return this.sizeOf(this.#rows);
  }

  sizeOf(rows: readonly PageRow[]): number {
    let size = this.#sizes.get(rows);
    if (size === undefined) {
      size = rows.reduce((sum, row) => sum + sizeOfRow(row), 0);
      this.#sizes.set(rows, size);
    }
    return size;
  }

  /**
   * These rows without the rest of the page. A consumer that handles its part late would keep all of it in
   * memory, of which its limits know nothing. If most of the page is its own, it stays as it is.
   */
  freed(rows: readonly PageRow[]): readonly PageRow[] {
    if (rows.length === 0 || 2 * this.sizeOf(rows) >= this.bytes) return rows;
    let copies = this.#copies.get(rows);
    if (copies === undefined) {
      copies = copiesOf(rows);
      this.#copies.set(rows, copies);
    }
    return copies;
  }

  rowsFor({ identity, held, partitions, place: { afterId } }: Wish): readonly PageRow[] {
    let rows = this.#ofChannels(identity.channels);
    if (held.length < partitions) {
      const mine = new Set(held.map(({ number }) => number));
      rows = rows.filter(({ partition }) => mine.has(partition));
    }
    return rows.length > 0 && rows[0]!.id <= afterId ? rows.filter(({ id }) => id > afterId) : rows;
  }

  #ofChannels(channels: readonly string[]): readonly PageRow[] {
    const found = [...new Set(channels)].filter((channel) => this.#byChannel.has(channel));
    if (found.length === 0) return [];
    if (found.length === this.#byChannel.size) return this.#rows;
    if (found.length === 1) return this.#byChannel.get(found[0]!)!;
    const names = new Set(found);
    return this.#rows.filter(({ channel }) => names.has(channel));
  }
}
