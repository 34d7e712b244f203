/**
 * Reads snapshot windows for some partitions of a consumer: one scan for all that have the same position.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { queryAgain } from "../database/again.ts";
import { translated } from "../database/translate.ts";
import type { HeldPartition } from "./held.ts";
import { type Identity, numbersText } from "./member.ts";
import { type Page, pageColumns, type PageLimits, parsePage, spanWorthStoring } from "./page.ts";

// A page that goes past its window takes a transaction number, and may have set hint bits: a commit that would wait for
// the disk, or for a standby, where nothing depends on it.
const readSql = `select ${pageColumns}, w.bounded, w.settled,
 pg_catalog.set_config('synchronous_commit', 'off', true) as unwaited
from hark.window($1::text, $2::uuid, $3::text::integer[], $4::text::bigint[], $5::text::hark.position,
 $6::text::hark.position) w,
lateral hark.page(w."position", w.channels, $7::integer, $8::bigint, $9::integer,
 $10::text::pg_snapshot, w.filter, w.partitions,
 case when w.partitions > cardinality($3::text::integer[]) then $3::text::integer[] end, $11::text, true) g`;

/** A position that is read from, shared by partitions. */
export class Reader {
  readonly partitions = new Set<HeldPartition>();
  /** As loaded, or after the pages read since. */
  position: string;
  /** Whether a window is open that is not read to its end. */
  inWindow: boolean;
  /** Whether a window is read to its end and not yet passed. */
  ended = false;
  /** Whether there is something to store: rows were read, many ids passed, or part of a window was stored. */
  dirty: boolean;
  /** Whether the last window ended with its first page, so that the reader is where the log ends. */
  caughtUp = false;
  /** Whether a window that was opened in this run has been read to its end. */
  fresh = false;
  /** What had rung when the window was opened: what rings later is not in it. */
  rung = -1;
  /** When the window was opened. */
  openedAt = -Infinity;
  /** Whether it had rows. */
  hadRows = false;
  /** Whether there is nothing more to read until the number of partitions has changed. */
  settled = false;
  /** The same for readers whose windows reach to the same snapshot. */
  tag: object = {};
  #before: string;
  /** Past the window that has ended, where that is known. */
  #next: string | undefined;
  #pages = 0;
  #own: boolean;
  #bounded = false;
  #span = 0;

  constructor(position: string, inWindow: boolean) {
    this.position = this.#before = position;
    this.inWindow = this.dirty = inWindow;
    this.#own = !inWindow;
  }

  /** Reads the next page of the window, or opens one, up to the same snapshot as `alike`'s where given. */
  async read(
    session: Queryable,
    identity: Identity,
    limits: PageLimits,
    started: string,
    rung: number,
    alike?: Reader,
  ): Promise<Page> {
    const held = [...this.partitions];
    if (!this.inWindow) {
      this.rung = alike?.rung ?? rung;
      this.openedAt = performance.now();
      this.hadRows = false;
      this.#pages = 0;
      this.#own = true;
      this.#bounded = false;
      this.#before = this.position;
    }
    const { rows } = await translated(() =>
      queryAgain(session, readSql, [
        identity.consumer,
        identity.owner,
        numbersText(held.map((h) => h.number)),
        numbersText(held.map((h) => h.epoch)),
        this.position,
        alike?.position ?? null,
        limits.rows,
        limits.bytes,
        limits.scanned,
        started,
        identity.channels[0],
      ])
    );
    const page = parsePage(rows, identity.channels[0]!);
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
      this.caughtUp = this.#pages === 1 && page.rows.length < limits.rows;
      if (this.#own) this.fresh = true;
    }
    return page;
  }

  /** How many ids the window spans, at the most of its pages. */
  get span(): number {
    return this.#span;
  }

  /** Whether its window has to be passed: an empty one may as well be thrown away. */
  get counts(): boolean {
    return this.hadRows || this.#bounded || !this.#own || this.#span > spanWorthStoring;
  }

  /** Throws away a window that was empty, so that idle reading writes nothing. */
  discard(): void {
    this.passed(this.#before);
  }

  /** Goes past a window that was read to its end without storing that. */
  async pass(session: Queryable): Promise<void> {
    if (this.#next !== undefined) {
      this.passed(this.#next);
      return;
    }
    const { rows } = await translated(() =>
      session.query(`select hark.pass($1::text::hark.position)::text as "position"`, [
        this.position,
      ])
    );
    this.passed(rows[0].position);
  }

  /** The window is behind it. */
  passed(position: string): void {
    this.position = position;
    this.#next = undefined;
    this.ended = false;
    this.#span = 0;
  }

  /** Takes over the partitions of another reader that has passed a window to the same snapshot. */
  async merge(session: Queryable, other: Reader): Promise<void> {
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
