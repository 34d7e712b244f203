/**
 * Reads windows for a reader that is not registered.
 *
 * @module
 */

import { toId } from "../../check.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translate, translated } from "../../database/translate.ts";
import type { StartValues } from "../start.ts";
import type { SubscriptionGap, SubscriptionResume } from "../subscribe_options.ts";
import type { PageLimits } from "../state/context.ts";
import { fitsWhole, lowOf, OutsidePlace } from "../state/outside.ts";
import { type Given, parsePosition } from "../state/parse_outside.ts";
import {
  isLater,
  isPrivate,
  isSameMark,
  type Mark,
  markOf,
  type Position,
  seeTheSame,
} from "../state/position.ts";
import { cut } from "./cut.ts";
import { emptyPage, EphemeralPages } from "./ephemeral_pages.ts";
import { Gaps } from "./gaps.ts";
import { look } from "./look.ts";
import type { MarkSource } from "./mark_source.ts";
import type { Page } from "./page.ts";
import { Upkeep } from "./upkeep.ts";

/** Reads windows from a position that is kept in memory. */
export class EphemeralReader {
  readonly #pages: EphemeralPages;
  readonly #marks: MarkSource | undefined;
  /** Whether windows may end at private marks. */
  readonly #looks: boolean;
  /** Until when marks are too long to be private ones. */
  #cutsUntil = -Infinity;
  #started: Mark | undefined;
  #position: Position | undefined;
  #install: string;
  #resuming = false;
  /** Whether it has asked for a mark because its position lies ahead. */
  #hasAsked = false;
  readonly #gaps = new Gaps();
  readonly #upkeep = new Upkeep();
  /**
   * Set when the server refuses the position, because it has been through a crash or a fail-over.
   */
  lost = false;

  /**
   * @param channels Null reads every channel.
   * @param install The first characters of the installation's id, if they are known: then the log has
   *   also been looked at on this connection.
   * @param marks Where windows end: at marks that are cut and stored, at private ones with a stored one
   *   now and then, or at marks that are given, on a server where none can be cut.
   */
  constructor(
    channels: string[] | null,
    limits: PageLimits,
    install: string = "",
    marks: "stored" | "private" | MarkSource = "stored",
  ) {
    this.#install = install;
    this.#marks = typeof marks === "string" ? undefined : marks;
    this.#looks = marks === "private";
    this.#pages = new EphemeralPages(channels, limits);
  }

  /**
   * Moves to the start. Returns what became of a position.
   *
   * @param exact Whether all that is there now must be seen by the mark that it starts with. Otherwise
   *   the newest mark will do, where marks are given.
   */
  async start(
    session: Queryable,
    start: StartValues,
    exact = true,
  ): Promise<SubscriptionResume | undefined> {
    const [kind, id, time, text] = start;
    const given = text === undefined ? undefined : parsePosition("from.position", text);
    return await translated(async () => {
      const isKnown = this.#install !== "";
      if (!isKnown && this.#marks === undefined) await session.query("select hark.rebase()");
      const mark = this.#started = await this.#first(session, exact);
      if (given !== undefined) return await this.#resumeAt(session, given);
      if (!isKnown) {
        const { rows: [facts] } = await session.query("select install from hark.log_facts()");
        this.#install = facts.install;
      }
      if (kind === "now") {
        this.#position = { seen: mark, target: undefined, lastId: 0, afterId: 0 };
        return undefined;
      }
      const { rows: [row] } = await session.query(
        `select hark.content_of(p.seen) as seen, p.after_id
         from hark.start_position($1::text, $2::bigint, $3::text::timestamptz) p`,
        [kind, id, time],
      );
      const seen = markOf(row.seen);
      this.#position = { seen, target: undefined, lastId: 0, afterId: toId(row.after_id) };
      return undefined;
    });
  }

  async #first(session: Queryable, exact: boolean): Promise<Mark> {
    if (this.#marks !== undefined) return await (exact ? this.#marks.now() : this.#marks.newest());
    const { rows: [row] } = await session.query("select hark.content_of(hark.cut()) as started");
    return markOf(row.started);
  }

  /** Goes on from a position outside of the database. */
  async #resumeAt(session: Queryable, given: Given): Promise<SubscriptionResume> {
    const { rows: [row] } = await session.query(
      `select hark.content_of(p.seen) as seen, hark.content_of(p.target) as target, p.last_id,
         p.after_id, p.repeats, p.gap
       from hark.resume_position($1::text, $2::text::hark.marks, $3::text::hark.marks, $4::bigint,
         $5::bigint) p`,
      [given.install, given.seen, given.target, given.lastId, given.afterId],
    ).catch((error) => {
      if (!this.#hasAsked && translate(error).code === "REPLICA_BEHIND") {
        this.#hasAsked = true;
        this.#marks?.advance();
      }
      throw error;
    });
    this.#install = given.install;
    this.#resuming = row.target !== null;
    this.#position = {
      seen: markOf(row.seen),
      target: row.target === null ? undefined : markOf(row.target),
      lastId: row.last_id === null ? 0 : toId(row.last_id),
      afterId: toId(row.after_id),
    };
    const gap = row.gap === null ? undefined : { through: toId(row.gap) };
    this.#gaps.begin(gap);
    return { gap, repeats: row.repeats };
  }

  /**
   * Goes on from a position, without asking where the log is now: no row counts as published since it
   * started.
   */
  async resume(session: Queryable, text: string): Promise<SubscriptionResume> {
    const given = parsePosition("from.position", text);
    return await translated(() => this.#resumeAt(session, given));
  }

  /** The first characters of the installation's id. Empty before the start. */
  get install(): string {
    return this.#install;
  }

  /** What is read of the log. Set it between windows. */
  set channels(names: readonly string[]) {
    this.#pages.channels = names;
  }

  /**
   * Has it begin at a mark where another reader stands, or go on where another reader is. Rows that the
   * mark does not see are no replays.
   */
  goOn(at: Position, install: string = this.#install): void {
    this.#position = at;
    this.#install = install;
    this.#started ??= at.seen;
    this.#resuming = false;
  }

  /** The mark that it began at. Rows that this one sees are replays. Undefined before the start. */
  get started(): Mark | undefined {
    return this.#started;
  }

  /** Where it stands. Undefined before the start. */
  get at(): Position | undefined {
    return this.#position;
  }

  /** The mark that it stands at. Undefined inside a window. */
  get mark(): Mark | undefined {
    const at = this.#position;
    return at?.target === undefined ? at?.seen : undefined;
  }

  /** Whether it reads the rest of a window that ended before it began. */
  get resuming(): boolean {
    return this.#resuming;
  }

  /** Where it stands, as text. Undefined before the start. */
  get position(): string | undefined {
    const at = this.#position;
    if (at === undefined) return undefined;
    const place = new OutsidePlace(this.#install, at);
    return at.target === undefined ? place.after() : place.after(at.lastId);
  }

  /** Takes over what another reader of the same windows was told. */
  noteGap(gap: SubscriptionGap): void {
    this.#gaps.note(gap);
  }

  /** What cleaning has removed before this reader came there, once for each time. */
  takeGap(): SubscriptionGap | undefined {
    return this.#gaps.take();
  }

  /**
   * Reads the next page, of the current window or of a new one. At the end of the log the page is
   * empty.
   *
   * @param until Where a new window ends: at a mark that was cut after the reader's own. By default
   *   one is cut, or the newest is taken where marks are given.
   */
  async read(session: Queryable, until?: Mark): Promise<Page> {
    return await translated(async () => {
      if (this.lost) await this.#resume(session);
      // What has marks cut looks after them.
      if (this.#marks === undefined) await this.#upkeep.tend(session);
      const { seen, target, afterId } = this.#position!;
      const end = target ?? until ?? await this.#end(session, seen);
      // A replica may have a position's mark and none that is later.
      const isEmpty = isSameMark(end, seen) || isPrivate(end) && seeTheSame(end, seen) ||
        this.#marks !== undefined && !isLater(end, seen);
      if (isEmpty) {
        // Of a window that a position tells, too.
        this.#position = { seen, target: undefined, lastId: 0, afterId };
        this.#resuming = false;
        return emptyPage;
      }
      const place = new OutsidePlace(this.#install, { seen, target: end, lastId: 0, afterId });
      const started = this.#started ?? end;
      const page = await this.#pages.read(session, this.#position!, end, started, place);
      this.#gaps.compare(page, this.#position!, end);
      if (page.windowEnd) this.#resuming = false;
      this.#position = page.windowEnd
        ? { seen: end, target: undefined, lastId: 0, afterId: afterId > lowOf(end) ? afterId : 0 }
        : { seen, target: end, lastId: page.lastId, afterId };
      return page;
    });
  }

  /** Where a new window ends. */
  async #end(session: Queryable, seen: Mark): Promise<Mark> {
    if (this.#marks !== undefined) return await this.#marks.newest();
    if (!this.#looks || performance.now() < this.#cutsUntil) return await cut(session);
    const { mark, wantsCut } = await look(session);
    if (!isPrivate(mark)) return mark;
    // In a position a private mark must have its content. With many transactions running it is too long.
    const isTold = fitsWhole(this.#install, seen, mark, this.#position!.afterId);
    if (!isTold) this.#cutsUntil = performance.now() + 1000;
    return wantsCut || !isTold ? await cut(session) : mark;
  }

  /**
   * After a crash or a fail-over that took the mark, goes on from the last one before that has
   * survived. Some notifications are then read again.
   */
  async #resume(session: Queryable): Promise<void> {
    const { seen, afterId } = this.#position!;
    const { rows: [row] } = await session.query(
      "select hark.content_of(hark.resume_mark($1::text::hark.marks)) as mark",
      [seen.content],
    );
    this.#position = { seen: markOf(row.mark), target: undefined, lastId: 0, afterId };
    this.#resuming = false;
    this.lost = false;
  }
}
