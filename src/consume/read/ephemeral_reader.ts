/**
 * Reads snapshot windows for a reader that is not registered.
 *
 * @module
 */

import type { Queryable, QueryResult } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { PageLimits } from "../state/context.ts";
import { Caution } from "./caution.ts";
import { extendLog } from "./extend_log.ts";
import { type Page, pageColumns, parsePage, spanWorthStoring } from "./page.ts";

const readSql = `select ${pageColumns}, pg_catalog.statement_timestamp()::text as time
from (select hark.window_open($1::text::hark.position) as "position" offset 0) w,
lateral hark.page(w."position",
 array(select pg_catalog.json_array_elements_text($2::text::json)),
 $3::integer, $4::bigint, $5::integer, $6::text::pg_snapshot) g`;

const readAllSql = readSql.replace(
  /array\(.*\)\),/,
  "case when $2::text is null then null::text[] end,",
);

/**
 * SQL that returns a position and puts a fence behind it, in one transaction. That transaction
 * takes its number after the position's snapshot, and is flushed to disk. So after a crash, the
 * server cannot give out again the transaction numbers that the snapshot has seen.
 */
const fenced = (position: string) =>
  `select p."position"::text as "position", pg_catalog.pg_current_snapshot()::text as started,
 pg_catalog.pg_logical_emit_message(true, 'hark', 'fence'), hark.timeline() as timeline,
 pg_catalog.statement_timestamp()::text as time
from (select pg_catalog.set_config('synchronous_commit', 'on', true), ${position} as "position" offset 0) p`;

const startSql = fenced("hark.start_position($1::text, $2::bigint, $3::text::timestamptz)");
const passSql = fenced("hark.window_skip($1::text::hark.position)");

interface Fenced {
  readonly position: string;
  readonly started: string;
  readonly timeline: string;
  readonly time: string;
}

/** Reads windows from a position that is kept in memory. */
export class EphemeralReader {
  readonly #channels: string | null;
  readonly #caution: Caution;
  #started = "";
  /**
   * The position between windows. Its fence is on disk, so the position outlives a crash of the
   * server.
   */
  #safe = "";
  #position = "";
  /**
   * What to do with a window that was read to its end, before the next page is read. The window is
   * passed, or discarded if it had no rows.
   */
  #ended: "to pass" | "to discard" | undefined;
  #dirty = false;
  /**
   * The latest point at which to start on a server of another timeline. Some notifications are then
   * read again.
   */
  #anchor: { readonly timeline: string; readonly start: unknown[] } | undefined;
  /** The server's clock before the current window was opened. */
  #openedAt = "";
  #waymarkedAt = performance.now();
  /**
   * Set when the server refuses the position, because it has been through a crash or a fail-over.
   */
  lost = false;

  /** @param channels Null reads every channel. */
  constructor(channels: string[] | null, limits: PageLimits) {
    this.#channels = channels === null ? null : JSON.stringify(channels);
    this.#caution = new Caution(limits);
  }

  /** Moves to the start, in the form that hark.start_position takes. */
  async start(session: Queryable, start: unknown[]): Promise<void> {
    await translated(async () => {
      await session.query("select hark.rebase()");
      await session.query("select hark.waymark()");
      const row = await this.#fenced(session, startSql, start);
      // After a fail-over, begin again at this time and not at a new "now". Notifications that were
      // not visible now may lie anywhere after this time.
      const again = start[0] === "now" ? ["time", null, row.time] : start;
      this.#anchor = { timeline: row.timeline, start: again };
      this.#safe = this.#position = row.position;
      this.#started = row.started;
    });
  }

  /** Reads the next page, of the current window or of a new one. */
  async read(session: Queryable): Promise<Page> {
    return await translated(async () => {
      if (this.lost) await this.#startOver(session);
      await this.#advance(session);
      const rows = await this.#page(session);
      const page = parsePage({ rows }, null);
      if (this.#position === this.#safe) this.#openedAt = rows[0].time;
      this.#position = page.position;
      if (page.rows.length > 0) this.#dirty = true;
      if (page.windowEnd) {
        this.#ended = this.#dirty || page.span > spanWorthStoring ? "to pass" : "to discard";
      }
      return page;
    });
  }

  async #page(session: Queryable): Promise<QueryResult["rows"]> {
    const { rows, bytes, scanned } = this.#caution.limits();
    this.#caution.prepare(session);
    const sent = performance.now();
    try {
      const page = await session.query(this.#channels === null ? readAllSql : readSql, [
        this.#position,
        this.#channels,
        rows,
        bytes,
        scanned,
        this.#started,
      ]);
      this.#caution.succeeded(performance.now() - sent);
      return page.rows;
    } catch (error) {
      this.#caution.failed(error, performance.now() - sent);
      throw error;
    }
  }

  async #advance(session: Queryable): Promise<void> {
    if (this.#ended === undefined) return;
    if (this.#ended === "to pass") {
      const { position, timeline } = await this.#fenced(session, passSql, [this.#position]);
      // Every notification that a waymark (a stored snapshot with its time) saw before the opening
      // was delivered by this window or an earlier one.
      this.#anchor = { timeline, start: ["time", null, this.#openedAt] };
      this.#safe = position;
    }
    this.#forgetWindow();
  }

  /**
   * After a crash the current window is invalid, but the position before it was on disk. That
   * position is valid without the incarnation it names.
   *
   * After a fail-over even that position may rest on transactions that the new primary never
   * received. Then reading begins again at the last waymark before the window that was last passed.
   * If no window was passed, it begins at the original start.
   */
  async #startOver(session: Queryable): Promise<void> {
    const { rows } = await session.query("select hark.timeline() as timeline");
    if (rows[0].timeline === this.#anchor?.timeline) {
      this.#safe = this.#safe.replace(/,[0-9a-f-]*\)$/, ",)");
    } else {
      await this.start(session, this.#anchor!.start);
    }
    this.#forgetWindow();
    this.lost = false;
  }

  #forgetWindow(): void {
    this.#position = this.#safe;
    this.#ended = undefined;
    this.#dirty = false;
  }

  async #fenced(session: Queryable, sql: string, values: unknown[]): Promise<Fenced> {
    const { rows: [row] } = await session.query(sql, values);
    if (performance.now() - this.#waymarkedAt > 60_000) {
      this.#waymarkedAt = performance.now();
      await session.query("select hark.waymark()");
      await extendLog(session);
    }
    return row;
  }
}
